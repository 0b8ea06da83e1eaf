"""Which backend runs an encoder: one whose numbers are proven; of several, the one that is faster on this machine.

proof            a backend's embeddings against those of transformers
comparison       which of the proven ones is faster here
record           what was proven and measured, kept in the home
serving_encoder  the one that serves, and the others that stand in for it
opening          all of these together: `Backends.open`
"""

from pawl.classifier.encoders.choice.opening import Backend, Backends, is_due

__all__ = ["Backend", "Backends", "is_due"]

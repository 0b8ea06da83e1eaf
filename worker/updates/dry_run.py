"""A step without a new sample, which tells a fault of the environment from one of a sample: what fails here too is not
the sample's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from torch import Tensor

from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.versions import HeadName, VersionKind
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.proposal import Proposal
from worker.state.learner_state import LearnerState
from worker.updates.step import Step

_TEXT = "The quick brown fox jumps over the lazy dog."
_ID = "rehearsal"


def dry_step(state: LearnerState) -> Step:
    """Embeds a text and proposes it to a head. Raises what does not work."""
    z = state.encoder.encode([_TEXT])
    if not np.isfinite(z).all():
        raise ArtefactCorrupt(path=state.encoder_folder, problem="its embeddings are not finite")
    features = {head: rows[0] for head, rows in state.features_of([_TEXT], z).items()}
    return Step(VersionKind.HEAD, _ID, _proposals(state, features))


def _proposals(state: LearnerState, features: Mapping[HeadName, Tensor]) -> dict[str, Proposal]:
    for task, model in state.tasks.items():
        for label, count in zip(model.labels, model.counts, strict=True):
            if count:
                example = LabelledFeatures(_ID, label, weight=1.0, features=features, order=_ID)
                proposal = model.propose(ModelChange(adds=[example], corrections=frozenset({_ID})))
                arrivals = {name: getattr(proposal.paired, name)[:0] for name in _OF_ARRIVALS}
                return {task: replace(proposal, paired=replace(proposal.paired, **arrivals))}
    return {}


_OF_ARRIVALS = ("new_targets", "new_live", "new_candidate")

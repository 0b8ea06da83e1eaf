"""The learning rate at each step, and early stopping (Prechelt, 1998). Pure arithmetic."""

from __future__ import annotations

import math
from dataclasses import dataclass, field


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak learning rate at `step` in [0, steps): linear warm-up over `warmup` of them, linear decay.

    The first step is not zero, the peak is reached at the end of the warm-up, and the step after the last would be 0.
    """
    rising = math.ceil(steps * warmup)
    if step < rising:
        return (step + 1) / rising
    # max: a warm-up of all steps leaves none to fall in.
    return (steps - step) / max(1, steps - rising)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look at the validation samples: `loss` is the mean cross entropy in nats."""

    step: int
    accuracy: float
    loss: float


@dataclass(slots=True)
class EarlyStopping:
    """Remembers the best evaluation and says when `patience` others in a row were no better.

    Better means a higher accuracy or, at the same accuracy, a lower loss: with a few hundred texts accuracies tie.
    """

    patience: int
    best: Evaluation | None = None
    history: list[Evaluation] = field(default_factory=list)
    _since: int = 0

    def note(self, evaluation: Evaluation) -> bool:
        """Takes an evaluation into the history; returns true if it is the best so far."""
        self.history.append(evaluation)
        best = self.best
        if best is None or (evaluation.accuracy, -evaluation.loss) > (best.accuracy, -best.loss):
            self.best, self._since = evaluation, 0
            return True
        self._since += 1
        return False

    @property
    def exhausted(self) -> bool:
        """True when training should stop."""
        return self._since >= self.patience

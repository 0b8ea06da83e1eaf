"""Averages of weights: over the steps of a training, and of an old and a new network."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from worker.consolidation.training.schedule import Evaluation

SHARES = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Shares of the new weights tried where validation picks."""


class RunningAverage:
    """An exponential moving average of parameters (Polyak & Juditsky, 1992; Tarvainen & Valpola, NeurIPS 2017).

    The decay rises as (1 + t) / (10 + t) up to `decay`, so that the start is soon forgotten.
    """

    def __init__(self, parameters: Sequence[Tensor], decay: float) -> None:
        self._parameters = list(parameters)
        self._decay = decay
        self._average = copies(self._parameters)
        self._updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Takes the parameters of one more step into the average."""
        self._updates += 1
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, 1.0 - decay)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The parameters are the average inside, and go on from where they were outside."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def _swap(self) -> None:
        for average, parameter in zip(self._average, self._parameters, strict=True):
            kept = average.clone()
            average.copy_(parameter)
            parameter.copy_(kept)


def copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    """What the parameters are now."""
    return [p.detach().clone() for p in parameters]


@torch.no_grad()
def interpolate(parameters: Sequence[Tensor], old: Sequence[Tensor], new: Sequence[Tensor], share: float) -> None:
    """Sets the parameters to (1 - share) * old + share * new: WiSE-FT (Wortsman et al., CVPR 2022).

    0 and 1 give the old and the new ones to the bit.
    """
    for parameter, before, after in zip(parameters, old, new, strict=True):
        parameter.copy_(torch.lerp(before, after, share))


def best_share(
    parameters: Sequence[Tensor], old: Sequence[Tensor], evaluate: Callable[[], Evaluation]
) -> tuple[float, Evaluation]:
    """Sets the parameters to the average of `old` and themselves that evaluates best; returns the share of the new.

    Of equal ones the larger share wins.
    """
    new = copies(parameters)
    found: dict[float, Evaluation] = {}
    for share in SHARES:
        interpolate(parameters, old, new, share)
        found[share] = evaluate()
    best = max(found, key=lambda share: (found[share].accuracy, -found[share].loss, share))
    interpolate(parameters, old, new, best)
    return best, found[best]

"""Averages of weights: over the steps of a training (no effect), and of the old and the new network (harm).

For trainings without a validation part: both set the weights when the training has ended.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.network import Network


class RunningAverage(Method):
    """An exponential moving average of parameters (Polyak & Juditsky, 1992; Tarvainen & Valpola, NeurIPS 2017).

    The decay rises as (1 + t) / (10 + t) up to `decay`, so that the start is soon forgotten.
    """

    def __init__(self, decay: float) -> None:
        self._decay = decay
        self._steps = 0

    def before_training(self, network: Network, /) -> None:
        """Starts the average at the parameters as they are."""
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._average = _copies(self._parameters)

    @torch.no_grad()
    def after_step(self) -> None:
        """Takes the parameters of one more step into the average."""
        self._steps += 1
        decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        for average, parameter in zip(self._average, self._parameters, strict=True):
            average.lerp_(parameter, 1.0 - decay)

    @torch.no_grad()
    def after_training(self) -> None:
        """Sets the parameters to the average."""
        for average, parameter in zip(self._average, self._parameters, strict=True):
            parameter.copy_(average)


class Interpolation(Method):
    """The average of the old and the new weights, `share` of the new: WiSE-FT (Wortsman et al., CVPR 2022)."""

    def __init__(self, share: float) -> None:
        self._share = share

    def before_training(self, network: Network, /) -> None:
        """Keeps the parameters as they are."""
        self._parameters = [p for p in network.parameters() if p.requires_grad]
        self._start = _copies(self._parameters)

    @torch.no_grad()
    def after_training(self) -> None:
        """Sets the parameters to (1 - share) * old + share * new; 0 and 1 give the old and the new to the bit."""
        for parameter, start in zip(self._parameters, self._start, strict=True):
            parameter.copy_(torch.lerp(start, parameter, self._share))


def _copies(parameters: Sequence[Tensor]) -> list[Tensor]:
    return [p.detach().clone() for p in parameters]

"""L2-SP: a penalty that holds the encoder's weights near where they started.

Li et al., "Explicit inductive bias for transfer learning with convolutional networks", ICML 2018.

Off by default. Measured 2026-11-25 (docs/log.md), weight 0.01 against the defaults: FinancialPhraseBank 81.65 instead
of 81.78 % (0 gained, 1 lost), Banking77 87.29 as without (1 and 1), CLINC150 92.93 instead of 92.97 (1 and 2): no
effect. EWC (Kirkpatrick et al., 2017) changed as few answers in two to four times the time, so it is the cheaper form
that stays.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from pawl.settings import Settings
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.network import Network


class L2SP(Method):
    """weight / 2 * sum_i (theta_i - theta*_i)^2 over the encoder's trained parameters, theta* where they started.

    The heads are free: new labels need them to move.
    """

    def __init__(self, weight: float) -> None:
        self._weight = weight
        self._parameters: list[Tensor] = []
        self._anchors: list[Tensor] = []

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_L2_SP`."""
        return cls(settings.l2_sp) if settings.l2_sp else None

    def before_training(self, network: Network, /) -> None:
        """Keeps a copy of the parameters as they are now."""
        self._parameters = [p for p in network.encoder.parameters() if p.requires_grad]
        self._anchors = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def after_backward(self) -> None:
        """Adds the penalty's gradient to `grad` of each parameter; cheaper than a way through autograd."""
        for parameter, anchor in zip(self._parameters, self._anchors, strict=True):
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)  # one that no loss of this step has reached
            parameter.grad.add_(parameter - anchor, alpha=self._weight)

"""FreeLB: adversarial training in several passes, from a random shift (Zhu et al., ICLR 2020). No better than FGM."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.consolidation.training.methods.adversarial import FastGradient, lengths
from worker.consolidation.training.methods.method import Backward


class FreeLB(FastGradient):
    """The mean gradients of `steps` passes, each at the shift of the last one moved uphill, all within the radius."""

    def __init__(self, radius: float = 0.15, steps: int = 3) -> None:
        super().__init__(radius)
        self._steps = steps

    def on_backward(self, backward: Backward, /) -> Backward:
        """Adds the mean gradients of all passes; returns their mean loss."""

        def passes(share: float) -> Tensor:
            shift = self._within(self.no_shift().uniform_(-1.0, 1.0) * self.mask[..., None])
            total = torch.zeros((), device=self.mask.device)
            for left in reversed(range(self._steps)):
                shift.requires_grad_()
                with self.shifted(shift):
                    total += backward(share / self._steps) / self._steps
                if left:
                    step = self.length / (self._steps - 1)
                    shift = self._within(shift.detach() + step * self.uphill(shift))
            return total

        return passes

    def _within(self, shift: Tensor) -> Tensor:
        return shift * torch.clamp(self.length / lengths(shift).clamp_min(1e-12), max=1.0)

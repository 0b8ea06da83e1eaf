"""Distillation: on replayed texts the network keeps the answers of the live model.

Hinton et al., "Distilling the knowledge in a neural network", 2015; against forgetting: Li & Hoiem, "Learning without
forgetting", ECCV 2016.

On by default with weight 0.5. Measured 2026-11-25 (docs/log.md), a second step of half the classes: without it CLINC150
92.93 instead of 92.97 % (6 gained, 7 lost), Banking77 87.42 instead of 87.29 (6 and 2, p = 0.29); three times the
weight 92.87, a temperature of 4 92.97 and 87.32. With balanced replay beside it, no effect beyond chance.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from pawl.settings import Settings
from worker.consolidation.training.losses import TaskOutput
from worker.consolidation.training.methods.method import Method


class Distillation(Method):
    """Adds weight * `distillation` on the targets that have a teacher."""

    def __init__(self, weight: float, temperature: float) -> None:
        self._weight = weight
        self._temperature = temperature

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_DISTILLATION` and `PAWL_DISTILLATION_TEMPERATURE`."""
        return cls(settings.distillation, settings.distillation_temperature) if settings.distillation else None

    def on_loss(self, loss: Tensor, output: TaskOutput, /) -> Tensor:
        """Adds the divergence from the live model, where this batch has replayed targets."""
        targets = output.targets
        if not len(targets.taught):
            return loss
        weights = targets.weights[targets.taught]
        terms = distillation(output.logits[targets.taught], targets.teacher, weights, self._temperature)
        return loss + self._weight * terms


def distillation(logits: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """sum_i w_i * T^2 * KL(p_i || q_i) (Hinton et al., 2015), p = teacher^(1/T) normalised, q = softmax(logits / T).

    `teacher` holds probabilities, shape (n, K), of the K labels the live model knows, which are the first K columns of
    `logits`, shape (n, C); labels it does not know are left out on both sides. T^2 keeps the gradient's size
    independent of the temperature.
    """
    # softmax(log p / T) is p^(1/T) normalised; both sides in logarithms, as `log_target` wants them.
    softened = torch.log_softmax(teacher.clamp_min(1e-12).log() / temperature, dim=1)
    learned = torch.log_softmax(logits[:, : teacher.shape[1]].float() / temperature, dim=1)
    divergence = functional.kl_div(learned, softened, reduction="none", log_target=True).sum(dim=1)
    return (divergence * weights).sum() * temperature**2

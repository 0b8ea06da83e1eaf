"""Losses of a consolidation. Each is a sum over rows, so that sums of parts of a batch add up to the batch's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * -log softmax(logits_i)[label_i], in nats. Shapes (n, C), (n,), (n,) -> ()."""
    return (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()


def distillation(logits: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """sum_i w_i * T^2 * KL(p_i || q_i) (Hinton et al., 2015), p = teacher^(1/T) normalised, q = softmax(logits / T).

    `teacher` holds probabilities, shape (n, K), of the K labels the live model knows, which are the first K columns of
    `logits`, shape (n, C); labels it does not know are left out on both sides. T^2 keeps the gradient's size
    independent of the temperature.
    """
    softened = torch.log_softmax(teacher.clamp_min(1e-12).log() / temperature, dim=1)
    learned = torch.log_softmax(logits[:, : teacher.shape[1]].float() / temperature, dim=1)
    divergence = functional.kl_div(learned, softened, reduction="none", log_target=True).sum(dim=1)
    return (divergence * weights).sum() * temperature**2

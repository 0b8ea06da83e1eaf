"""Terms of the loss: logit matching, the supervised contrastive loss, mixup. No effect, no effect, harm."""

from __future__ import annotations

import torch
from torch import Tensor

from worker.consolidation.training.losses import TaskOutput, weighted_cross_entropy
from worker.consolidation.training.methods.method import Method


class LogitMatching(Method):
    """DER++'s term on replayed samples (Buzzega et al., NeurIPS 2020)."""

    def __init__(self, weight: float) -> None:
        self._weight = weight

    def on_loss(self, loss: Tensor, output: TaskOutput, /) -> Tensor:
        """Adds the squared distance to the live model's logits."""
        targets = output.targets
        if not len(targets.taught):
            return loss
        weights = targets.weights[targets.taught]
        return loss + self._weight * logit_matching(output.logits[targets.taught], targets.teacher, weights)


def logit_matching(logits: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * mean_k (a_ik - b_ik)^2.

    a are the logits of the K labels the live model knows, b the logarithms of its probabilities, `teacher`, (n, K).
    Probabilities fix logits up to a constant only, so both are centred to mean zero over the K labels.
    """
    learned = logits[:, : teacher.shape[1]].float()
    wanted = teacher.clamp_min(1e-12).log()
    difference = (learned - learned.mean(dim=1, keepdim=True)) - (wanted - wanted.mean(dim=1, keepdim=True))
    return (difference.square().mean(dim=1) * weights).sum()


class Contrastive(Method):
    """The supervised contrastive loss (Khosla et al., NeurIPS 2020; for fine-tuning Gunel et al., ICLR 2021)."""

    def __init__(self, weight: float, temperature: float = 0.3) -> None:
        self._weight = weight
        self._temperature = temperature

    def on_loss(self, loss: Tensor, output: TaskOutput, /) -> Tensor:
        """Adds the loss between the embeddings of the batch."""
        targets = output.targets
        terms = supervised_contrastive(output.z, targets.labels, targets.weights, self._temperature)
        return loss + self._weight * terms


def supervised_contrastive(z: Tensor, labels: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """sum_i w_i * -1/|P_i| * sum_{p in P_i} log softmax_{a != i}(z_i . z_a / T)[p] (Khosla et al., NeurIPS 2020).

    P_i are the others of i's class in the batch; rows without another are left out. `z` is (n, d), unit length.
    """
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    similarity = (z @ z.T / temperature).masked_fill(itself, -torch.inf)
    surprise = -torch.log_softmax(similarity, dim=1).masked_fill(itself, 0.0)
    positives = (labels[:, None] == labels[None, :]) & ~itself
    count = positives.sum(dim=1)
    return ((surprise * positives).sum(dim=1) / count.clamp_min(1) * weights).sum()


class Mixup(Method):
    """Mixup (Zhang et al., ICLR 2018) of the embeddings of sentences (Guo et al., 2019), with one share a batch."""

    def __init__(self, alpha: float) -> None:
        self._alpha = alpha

    def on_loss(self, _loss: Tensor, output: TaskOutput, /) -> Tensor:
        """Replaces the cross entropy by that of pairs of rows, mixed by a share from Beta(alpha, alpha)."""
        z, targets = output.z, output.targets
        share = float(torch.distributions.Beta(self._alpha, self._alpha).sample())
        partners = torch.randperm(len(z)).to(z.device, non_blocking=True)
        logits = output.head(share * z + (1.0 - share) * z[partners])
        first = weighted_cross_entropy(logits, targets.labels, targets.weights)
        second = weighted_cross_entropy(logits, targets.labels[partners], targets.weights[partners])
        return share * first + (1.0 - share) * second

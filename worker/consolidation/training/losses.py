"""Losses of a consolidation. Each is a sum over rows, so that sums of parts of a batch add up to the batch's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.consolidation.data.batches import TaskTargets
from worker.consolidation.training.methods.augmentation import Mixture


@dataclass(frozen=True, slots=True)
class Objective:
    """Weights of the terms of the loss beside cross entropy; 0 leaves a term out, uncomputed. Names of the settings."""

    distillation: float = 0.0
    distillation_temperature: float = 2.0
    logit_matching: float = 0.0
    contrastive: float = 0.0
    contrastive_temperature: float = 0.3
    mixup: float = 0.0

    def loss(self, z: Tensor, head: nn.Module, targets: TaskTargets) -> Tensor:
        """The loss of one task, summed over its targets. `z` is (n, d), the embeddings of the targets' rows."""
        logits = head(z)
        if self.mixup:
            total = _mixed_cross_entropy(z, head, targets, self.mixup)
        else:
            total = weighted_cross_entropy(logits, targets.labels, targets.weights)
        taught, weights = targets.taught, targets.weights[targets.taught]
        if self.distillation and len(taught):
            terms = distillation(logits[taught], targets.teacher, weights, self.distillation_temperature)
            total = total + self.distillation * terms
        if self.logit_matching and len(taught):
            total = total + self.logit_matching * logit_matching(logits[taught], targets.teacher, weights)
        if self.contrastive:
            terms = supervised_contrastive(z, targets.labels, targets.weights, self.contrastive_temperature)
            total = total + self.contrastive * terms
        return total


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * -log softmax(logits_i)[label_i], in nats. Shapes (n, C), (n,), (n,) -> ()."""
    return (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()


def distillation(logits: Tensor, teacher: Tensor, weights: Tensor, temperature: float) -> Tensor:
    """sum_i w_i * T^2 * KL(p_i || q_i) (Hinton et al., 2015), p = teacher^(1/T) normalised, q = softmax(logits / T).

    `teacher` holds probabilities, shape (n, K), of the K labels the live model knows, which are the first K columns of
    `logits`, shape (n, C); labels it does not know are left out on both sides. T^2 keeps the gradient's size
    independent of the temperature.
    """
    softened = torch.log_softmax(_logarithm(teacher) / temperature, dim=1)
    learned = torch.log_softmax(logits[:, : teacher.shape[1]].float() / temperature, dim=1)
    divergence = functional.kl_div(learned, softened, reduction="none", log_target=True).sum(dim=1)
    return (divergence * weights).sum() * temperature**2


def logit_matching(logits: Tensor, teacher: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * mean_k (a_ik - b_ik)^2, DER++'s term on replayed samples (Buzzega et al., NeurIPS 2020).

    a are the logits of the K labels the live model knows, b the logarithms of its probabilities, `teacher`, (n, K).
    Probabilities fix logits up to a constant only, so both are centred to mean zero over the K labels.
    """
    learned = logits[:, : teacher.shape[1]].float()
    wanted = _logarithm(teacher)
    difference = (learned - learned.mean(dim=1, keepdim=True)) - (wanted - wanted.mean(dim=1, keepdim=True))
    return (difference.square().mean(dim=1) * weights).sum()


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


def _mixed_cross_entropy(z: Tensor, head: nn.Module, targets: TaskTargets, alpha: float) -> Tensor:
    mixture = Mixture.draw(len(z), alpha, z.device)
    logits = head(mixture.of(z))
    own = weighted_cross_entropy(logits, targets.labels, targets.weights)
    other = weighted_cross_entropy(logits, targets.labels[mixture.partners], targets.weights[mixture.partners])
    return mixture.share * own + (1.0 - mixture.share) * other


def _logarithm(probabilities: Tensor) -> Tensor:
    return probabilities.clamp_min(1e-12).log()

"""The loss of a consolidation. It is a sum over rows, so that sums of parts of a batch add up to the batch's."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

from worker.consolidation.data.batches import TaskTargets


@dataclass(frozen=True, slots=True)
class TaskOutput:
    """What the network says of one task's n targets in a batch: z (n, d), its head, and the logits (n, C) of z."""

    z: Tensor
    head: nn.Module
    logits: Tensor
    targets: TaskTargets


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    """sum_i w_i * -log softmax(logits_i)[label_i], in nats. Shapes (n, C), (n,), (n,) -> ()."""
    return (functional.cross_entropy(logits.float(), labels, reduction="none") * weights).sum()

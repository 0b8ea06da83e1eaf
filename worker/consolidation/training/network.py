"""The network that is trained: transformer -> pooled unit-length z -> one linear softmax head for each task."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor, nn
from torch.nn import functional

from pawl.domain.errors import EncoderRejected
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.losses import TaskOutput


class Network(nn.Module):
    """`encoder` maps (tokens, mask), both (B, T), to unit-length z, (B, d); `heads` are in the order of the tasks."""

    def __init__(self, encoder: nn.Module, heads: Sequence[nn.Linear]) -> None:
        super().__init__()
        self.encoder = encoder
        self.dimension = heads[0].in_features if heads else 0
        self.heads = nn.ModuleList(heads)

    def embed(self, batch: TrainingBatch) -> Tensor:
        """z, shape (B, d), float32: the heads and the losses are computed in full precision also under autocast."""
        return functional.normalize(self.encoder(batch.tokens, batch.mask).float(), dim=1)

    def outputs(self, batch: TrainingBatch, z: Tensor) -> Iterator[TaskOutput]:
        """What the heads say of the batch's targets, one task at a time. `z` is (B, d)."""
        for task, targets in batch.targets.items():
            rows = z[targets.rows]
            yield TaskOutput(rows, self.heads[task], self.heads[task](rows), targets)


def layers_of(encoder: nn.Module) -> nn.ModuleList:
    """The transformer's layers: of all its module lists the one that holds the most parameters.

    Raises `EncoderRejected` when there is none.
    """
    lists = [module for module in encoder.modules() if isinstance(module, nn.ModuleList)]
    if not lists:
        raise EncoderRejected(path=type(encoder).__name__, problem="it has no list of layers to freeze")
    return max(lists, key=lambda layers: sum(p.numel() for p in layers.parameters()))

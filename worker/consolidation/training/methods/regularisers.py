"""Penalties that hold the weights near where they started."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn import functional

from worker.consolidation.data.batches import Batch

_LIMIT = 256


class AnchoredPenalty:
    """weight / 2 * sum_i F_i (theta_i - theta*_i)^2 over the parameters, theta* their values now.

    Without `importances`, F_i = 1: L2-SP (Li et al., "Explicit inductive bias for transfer learning", ICML 2018). With
    the diagonal of the Fisher information: EWC (Kirkpatrick et al., PNAS 2017).
    """

    def __init__(
        self, parameters: Sequence[Tensor], weight: float, importances: Sequence[Tensor] | None = None
    ) -> None:
        self._parameters = list(parameters)
        self._weight = weight
        self._importances = importances
        self._anchors = [p.detach().clone() for p in self._parameters]

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Adds the penalty's gradient to `grad` of each parameter; cheaper than a way through autograd."""
        for k, (parameter, anchor) in enumerate(zip(self._parameters, self._anchors, strict=True)):
            pull = parameter - anchor
            if self._importances is not None:
                pull *= self._importances[k]
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            parameter.grad.add_(pull, alpha=self._weight)


def fisher_information(
    parameters: Sequence[Tensor],
    heads: nn.ModuleList,
    batches: Iterable[Batch],
    embed: Callable[[Batch], Tensor],
    seed: int,
) -> list[Tensor]:
    """The diagonal Fisher information of each parameter, in the parameters' shapes, scaled to mean 1 over all of them.

    F_i = mean over texts of (d log q(y | x) / d theta_i)^2 with y drawn from the model's own answer q (Kunstner et
    al., NeurIPS 2019: with the given labels it would not be the Fisher information). `batches` hold one text each;
    `embed` gives z with gradients.
    """
    generator = torch.Generator().manual_seed(seed)
    total = [torch.zeros_like(p) for p in parameters]
    for batch in islice(batches, _LIMIT):
        z = embed(batch)
        loss = z.new_zeros(())
        for task, targets in batch.targets.items():
            logits = heads[task](z[targets.rows])
            drawn = torch.multinomial(logits.detach().softmax(dim=1).cpu(), 1, generator=generator)[:, 0]
            loss = loss + functional.cross_entropy(logits, drawn.to(z.device), reduction="sum")
        for squares, gradient in zip(total, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True):
            if gradient is not None:
                squares.addcmul_(gradient, gradient)
    mean = sum(float(squares.sum()) for squares in total) / max(1, sum(squares.numel() for squares in total))
    return [squares / max(mean, 1e-30) for squares in total]

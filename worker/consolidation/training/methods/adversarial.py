"""Adversarial training with the fast gradient method: half of each gradient is taken where the loss is higher.

FGM: Miyato et al., "Adversarial training methods for semi-supervised text classification", ICLR 2017.

Off by default, and the first thing to try where accuracy counts for more than time (ADR 0010). Measured 2026-11-25
(docs/log.md, docs/benchmarks.md) against the defaults: FinancialPhraseBank (B5, five seeds) +0.87 points, p = 0.002;
Banking77 (B2, five seeds) 94.40 instead of 94.05 %; CLINC150 validation +0.30, p = 0.14; 1.6 to 1.9 times the time.
FreeLB (Zhu et al., ICLR 2020) gained less in 2.6 times the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from pawl.domain.errors import EncoderRejected
from pawl.settings import Settings
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.methods.method import Backward, Method
from worker.consolidation.training.network import Network


class FastGradient(Method):
    """Two passes of half the loss each: the plain one, and one whose word vectors are shifted along their gradient.

    The shift of a text's word vectors, (T, d), has the length `radius` over the whole text, as a multiple of the mean
    length of a word vector. It is added to the output of the encoder's word embeddings; weights are never touched.
    """

    runs_all_layers: ClassVar[bool] = True

    def __init__(self, radius: float) -> None:
        self._radius = radius

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_ADVERSARIAL` and `PAWL_ADVERSARIAL_RADIUS`."""
        return cls(settings.adversarial_radius) if settings.adversarial == "fgm" else None

    def before_training(self, network: Network, /) -> None:
        """Finds the word embeddings. Raises `EncoderRejected` where there are none."""
        self.embeddings = word_embeddings(network.encoder)
        self.length = self._radius * float(self.embeddings.weight.detach().norm(dim=1).mean())

    def on_batch(self, batch: TrainingBatch, /) -> TrainingBatch:
        """Notes where the batch has tokens: padding is not shifted."""
        self.mask = batch.mask
        return batch

    def on_backward(self, backward: Backward, /) -> Backward:
        """Adds the mean gradients of both passes; returns their mean loss."""

        def passes(share: float) -> Tensor:
            # A shift of 0, a leaf: its gradient is that of the word vectors, also where the embeddings are frozen.
            start = torch.zeros(*self.mask.shape, self.embeddings.embedding_dim, device=self.mask.device)
            start.requires_grad_()
            with self.shifted(start):
                plain = backward(share / 2)
            with self.shifted(self.length * self.uphill(start)):
                # Both passes add to the same gradients, so half a share each keeps the size of one.
                return plain / 2 + backward(share / 2) / 2

        return passes

    def uphill(self, shift: Tensor) -> Tensor:
        """The direction in which the loss rises fastest at a shift that has its gradient; unit length over a text."""
        if shift.grad is None:
            raise RuntimeError("the loss does not depend on the word vectors")
        gradient = shift.grad * self.mask[..., None]
        return gradient / lengths(gradient).clamp_min(1e-12)

    @contextmanager
    def shifted(self, shift: Tensor) -> Iterator[None]:
        """The word embeddings give vectors moved by `shift`, (B, T, d), inside."""

        def move(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output + shift.to(output.dtype)

        handle = self.embeddings.register_forward_hook(move)
        try:
            yield
        finally:
            handle.remove()


def word_embeddings(encoder: nn.Module) -> nn.Embedding:
    """The encoder's word embeddings. Raises `EncoderRejected` where there are none to be found."""
    for module in encoder.modules():
        find = getattr(module, "get_input_embeddings", None)
        embeddings = find() if callable(find) else None
        if isinstance(embeddings, nn.Embedding):
            return embeddings
    raise EncoderRejected(path=type(encoder).__name__, problem="it has no word embeddings for adversarial training")


def lengths(shift: Tensor) -> Tensor:
    """The length over each text, shape (B, 1, 1)."""
    norms: Tensor = torch.linalg.vector_norm(shift, dim=(1, 2), keepdim=True)
    return norms

"""Adversarial training with the fast gradient method: half of each gradient is taken where the loss is higher.

FGM: Miyato et al., "Adversarial training methods for semi-supervised text classification", ICLR 2017.

On by default (ADR 0028). Measured 2026-11-25 (docs/log.md, docs/benchmarks.md) against training without it:
FinancialPhraseBank (B5, five seeds) +0.87 points, p = 0.002; Banking77 (B2, five seeds) 94.40 instead of 94.05 %,
p = 0.0002; CLINC150 validation +0.30, p = 0.14; 1.6 to 1.9 times the time.
FreeLB (Zhu et al., ICLR 2020) gained less in 2.6 times the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Self

import torch
from torch import Tensor, nn

from pawl.domain.errors import EncoderRejected
from pawl.settings import Settings
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.freezing import first_trained
from worker.consolidation.training.methods.method import Backward, Method
from worker.consolidation.training.network import Network, layers_of


class FastGradient(Method):
    """Two passes of half the loss each: the plain one, and one whose word vectors are shifted along their gradient.

    The shift of a text's word vectors, (T, d), has the length `radius` over the whole text, as a multiple of the mean
    length of a word vector. It is added to the output of the encoder's word embeddings; weights are never touched.
    Where the lowest layers are frozen, it is the states which enter the first layer that trains that are shifted, by a
    multiple of their mean length: so nothing is asked of the layers below, whose output may be cached.
    """

    def __init__(self, radius: float) -> None:
        self._radius = radius
        self.unit = 0.0

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_ADVERSARIAL` and `PAWL_ADVERSARIAL_RADIUS`."""
        return cls(settings.adversarial_radius) if settings.adversarial == "fgm" else None

    def before_training(self, network: Network, /) -> None:
        """Finds what is shifted. Raises `EncoderRejected` where there are no word embeddings."""
        layers = layers_of(network.encoder)
        self._lowest = first_trained(layers)
        if self._lowest:
            self.shifted_module: nn.Module = layers[self._lowest]
            self._width = network.dimension
        else:
            self.shifted_module = embeddings = word_embeddings(network.encoder)
            self._width = embeddings.embedding_dim
            self.unit = float(embeddings.weight.detach().norm(dim=1).mean())

    @property
    def length(self) -> float:
        """Of the shift of a text."""
        return self._radius * self.unit

    def no_shift(self) -> Tensor:
        """Zeros, one number for each that can be moved: (B, T, d)."""
        return torch.zeros(*self.mask.shape, self._width, device=self.mask.device)

    def on_batch(self, batch: TrainingBatch, /) -> TrainingBatch:
        """Notes where the batch has tokens: padding is not shifted."""
        self.mask = batch.mask
        return batch

    def on_backward(self, backward: Backward, /) -> Backward:
        """Adds the mean gradients of both passes; returns their mean loss."""

        def passes(share: float) -> Tensor:
            # A shift of 0, a leaf: its gradient is that of the word vectors, also where the embeddings are frozen.
            start = self.no_shift().requires_grad_()
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
        """Word vectors, or the states that enter the lowest trained layer, are moved by `shift`, (B, T, d), inside."""

        def move_words(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output + shift.to(output.dtype)

        def move_states(_module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
            states = inputs[0]
            sizes = states.detach().norm(dim=-1) * self.mask
            self.unit = float(sizes.sum() / self.mask.sum())
            return (states + shift.to(states.dtype), *inputs[1:])

        module = self.shifted_module
        if self._lowest:
            handle = module.register_forward_pre_hook(move_states)
        else:
            handle = module.register_forward_hook(move_words)
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

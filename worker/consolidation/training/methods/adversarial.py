"""Adversarial training: the gradients are taken at word vectors shifted to where the loss is higher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pawl.domain.errors import EncoderRejected

Backward = Callable[[float], Tensor]
"""Adds the gradients of so large a share of the batch's loss; returns the whole loss, shape ()."""


@dataclass(frozen=True, slots=True)
class Attack:
    """How to search the shift delta of a text's word vectors, (T, d): `steps` passes, each at the shift of the last
    one moved `step` along its normalised gradient and put back into the ball of `radius`; they start at zero or at
    random. All lengths are over the whole text and multiples of the mean length of a word vector.

    FGM (Miyato et al., "Adversarial training methods for semi-supervised text classification", ICLR 2017) is two
    passes from zero with a step of the radius: the plain loss and the worst case to first order, half each.
    FreeLB (Zhu et al., ICLR 2020) starts at random and averages the gradients of all its passes.
    """

    steps: int
    step: float
    radius: float
    at_random: bool

    @staticmethod
    def of(method: Literal["off", "fgm", "freelb"], radius: float, steps: int) -> Attack | None:
        """The attack of a setting; None for `off`."""
        if method == "off":
            return None
        if method == "fgm":
            return Attack(2, radius, radius, at_random=False)
        return Attack(steps, radius / (steps - 1), radius, at_random=True)


class Adversary:
    """Shifts the output of the encoder's word embeddings; weights are never touched."""

    def __init__(self, encoder: nn.Module, attack: Attack) -> None:
        self._attack = attack
        self._embeddings = word_embeddings(encoder)
        self._unit = float(self._embeddings.weight.detach().norm(dim=1).mean())

    def accumulate(self, mask: Tensor, backward: Backward) -> Tensor:
        """Adds the mean gradients over the passes; returns the mean loss, shape (). `mask` is (B, T)."""
        attack, width = self._attack, self._embeddings.weight.shape[1]
        delta = torch.zeros(*mask.shape, width, device=mask.device)
        if attack.at_random:
            delta.uniform_(-1.0, 1.0)
            delta = _within(delta * mask[..., None], attack.radius * self._unit)
        total = torch.zeros((), device=mask.device)
        for left in reversed(range(attack.steps)):
            delta.requires_grad_()
            with self._shifted(delta):
                total += backward(1.0 / attack.steps) / attack.steps
            if left and delta.grad is not None:
                uphill = delta.grad * mask[..., None]
                uphill = uphill / _lengths(uphill).clamp_min(1e-12)
                moved = delta.detach() + attack.step * self._unit * uphill
                delta = _within(moved, attack.radius * self._unit)
        return total

    @contextmanager
    def _shifted(self, delta: Tensor) -> Iterator[None]:
        def shift(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            return output + delta.to(output.dtype)

        handle = self._embeddings.register_forward_hook(shift)
        try:
            yield
        finally:
            handle.remove()


def word_embeddings(encoder: nn.Module) -> nn.Embedding:
    """The encoder's word embeddings. Raises `EncoderRejected` where there are none to be found."""
    for module in encoder.modules():
        found = getattr(module, "get_input_embeddings", None)
        embeddings = found() if callable(found) else None
        if isinstance(embeddings, nn.Embedding):
            return embeddings
    raise EncoderRejected(path=type(encoder).__name__, problem="it has no word embeddings for adversarial training")


def _lengths(delta: Tensor) -> Tensor:
    """The length over each text, (B, 1, 1)."""
    lengths: Tensor = torch.linalg.vector_norm(delta, dim=(1, 2), keepdim=True)
    return lengths


def _within(delta: Tensor, radius: float) -> Tensor:
    shrink = torch.clamp(radius / _lengths(delta).clamp_min(1e-12), max=1.0)
    return delta * shrink

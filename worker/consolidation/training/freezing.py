"""Which part of an encoder trains: what `PAWL_FREEZE` asks for, and what it says where it asks for nothing."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from worker.consolidation.training.network import layers_of

_WHOLE = 40_000_000
"""An encoder of at most so many parameters trains whole."""
_UPPER = 30_000_000
"""Of a larger one train as many upper layers as have at most so many parameters together, and no embeddings."""


@dataclass(frozen=True, slots=True)
class TrainedPart:
    """What of an encoder trains: so many of its layers, from the top, and so many of all its parameters."""

    layers: int
    all_layers: int
    parameters: int
    all_parameters: int

    @staticmethod
    def of(encoder: nn.Module) -> TrainedPart:
        """What is not frozen."""
        layers = layers_of(encoder)
        parameters = [*encoder.parameters()]
        return TrainedPart(
            layers=len(layers) - first_trained(layers),
            all_layers=len(layers),
            parameters=sum(p.numel() for p in parameters if p.requires_grad),
            all_parameters=sum(p.numel() for p in parameters),
        )

    def __str__(self) -> str:
        """In words: `4 of 12 layers, 28.4 of 108.9 million parameters`."""
        millions = f"{self.parameters / 1e6:.1f} of {self.all_parameters / 1e6:.1f} million parameters"
        return f"{self.layers} of {self.all_layers} layers, {millions}"


def freeze(encoder: nn.Module, policy: str) -> int:
    """Applies `auto`, `head`, `all` or `top-k`; returns how many layers at the bottom are frozen.

    `top-k` trains the k upper layers; the layers below them and everything outside the layers (embeddings) is frozen.
    Where there are no more than k layers all of them train, but still not the embeddings.
    """
    policy = chosen(encoder) if policy == "auto" else policy
    # Off first, also for `top-k`: embeddings and norms outside the layers are frozen by not being turned on again.
    encoder.requires_grad_(policy == "all")
    if policy in {"all", "head"}:
        return 0
    layers = layers_of(encoder)
    frozen = max(0, len(layers) - int(policy.removeprefix("top-")))
    for layer in layers[frozen:]:
        layer.requires_grad_(requires_grad=True)
    return frozen


def chosen(encoder: nn.Module) -> str:
    """What `auto` means for this encoder: a training on a CPU should fit in 2 GiB and end the same hour.

    A trained parameter takes 16 bytes (itself, its gradient, two moments), a frozen one 4; and the words of a large
    vocabulary are mostly ones that no sample has.
    """
    if sum(p.numel() for p in encoder.parameters()) <= _WHOLE:
        return "all"
    layers, total = 0, 0
    for layer in reversed(layers_of(encoder)):
        total += sum(p.numel() for p in layer.parameters())
        if layers and total > _UPPER:
            break
        layers += 1
    return f"top-{layers}"


def first_trained(layers: nn.ModuleList) -> int:
    """The number of the lowest layer that trains; that of the layers where none does."""
    trains = (any(p.requires_grad for p in layer.parameters()) for layer in layers)
    return next((number for number, trained in enumerate(trains) if trained), len(layers))

"""How to train: what the loop needs to know besides its methods, and the optimiser's parameter groups."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pawl.classifier.encoders.device import use_bfloat16
from pawl.settings import Settings
from worker.consolidation.training.network import Network


@dataclass(frozen=True, slots=True)
class Recipe:
    """Most names are those of the settings, and so are the meanings.

    `head_rate` is the heads' learning rate as a multiple of the encoder's; `bf16` is autocast to bfloat16; `padding`
    is the id of the padding token.
    """

    freeze: str
    epochs: float
    learning_rate: float
    warmup: float
    weight_decay: float
    batch_size: int
    patience: int
    max_grad_norm: float
    bf16: bool
    padding: int
    seed: int
    token_budget: int = 0
    head_rate: float = 20.0
    evaluations_per_epoch: int = 2

    @staticmethod
    def of(settings: Settings, device: torch.device, *, padding: int, seed: int) -> Recipe:
        """What the settings say, on this device."""
        return Recipe(
            freeze=settings.freeze,
            epochs=settings.epochs,
            learning_rate=settings.learning_rate,
            warmup=settings.warmup,
            weight_decay=settings.weight_decay,
            batch_size=settings.train_batch,
            patience=settings.patience,
            max_grad_norm=settings.max_grad_norm,
            bf16=use_bfloat16(settings.bf16, device),
            padding=padding,
            seed=seed,
            token_budget=settings.train_tokens,
        )


def parameter_groups(network: Network, recipe: Recipe, encoder_rate: float) -> list[dict[str, object]]:
    """The encoder's matrices with weight decay, its biases and norms without, and the heads with their own rate.

    `encoder_rate` multiplies the learning rate of the encoder's groups.
    """
    trained = [p for p in network.encoder.parameters() if p.requires_grad]
    # A norm's scale lies near 1: decay would pull it to 0, which is no simpler a network.
    matrices, others = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
    rate = recipe.learning_rate
    groups: list[dict[str, object]] = [
        {"params": matrices, "peak": rate * encoder_rate, "weight_decay": recipe.weight_decay},
        {"params": others, "peak": rate * encoder_rate, "weight_decay": 0.0},
        {"params": [*network.heads.parameters()], "peak": rate * recipe.head_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]

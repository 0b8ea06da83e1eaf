"""How to train: all that the loop needs to know, and the optimiser's parameter groups."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from pawl.settings import Settings
from worker.consolidation.hardware import use_bfloat16
from worker.consolidation.training.losses import Objective
from worker.consolidation.training.methods.adversarial import Attack
from worker.consolidation.training.methods.lora import RATE
from worker.consolidation.training.network import layers_of


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
    layer_decay: float = 1.0
    lora_rank: int = 0
    objective: Objective = field(default_factory=Objective)
    attack: Attack | None = None
    token_dropout: float = 0.0
    l2_sp: float = 0.0
    ewc: float = 0.0
    ema_decay: float = 0.0
    wise_ft: float | Literal["validation"] = 1.0
    compiled: bool = False
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
            layer_decay=settings.layer_decay,
            lora_rank=settings.lora_rank,
            objective=Objective(
                distillation=settings.distillation,
                distillation_temperature=settings.distillation_temperature,
                logit_matching=settings.logit_matching,
                contrastive=settings.contrastive,
                contrastive_temperature=settings.contrastive_temperature,
                mixup=settings.mixup,
            ),
            attack=Attack.of(settings.adversarial, settings.adversarial_radius, settings.adversarial_steps),
            token_dropout=settings.token_dropout,
            l2_sp=settings.l2_sp,
            ewc=settings.ewc,
            ema_decay=settings.ema_decay,
            wise_ft=settings.wise_ft,
            compiled=settings.compile,
        )


def parameter_groups(encoder: nn.Module, heads: nn.Module, recipe: Recipe) -> list[dict[str, object]]:
    """The encoder's matrices with weight decay, its biases and norms without, and the heads with their own rate.

    With a layer decay below 1 each layer is a group of its own: its rate is the decay to the power of its depth below
    the top, and the embeddings come after the lowest layer (Howard & Ruder, ULMFiT, ACL 2018).
    """
    rate = recipe.learning_rate * (RATE if recipe.lora_rank else 1.0)
    by_depth: dict[int, list[Tensor]] = {}
    for parameter, depth in _depths(encoder, recipe.layer_decay):
        if parameter.requires_grad:
            by_depth.setdefault(depth, []).append(parameter)
    groups: list[dict[str, object]] = []
    for depth, found in by_depth.items():
        peak = rate * recipe.layer_decay**depth
        matrices, others = [p for p in found if p.ndim > 1], [p for p in found if p.ndim <= 1]
        groups.append({"params": matrices, "peak": peak, "weight_decay": recipe.weight_decay})
        groups.append({"params": others, "peak": peak, "weight_decay": 0.0})
    groups.append(
        {"params": [*heads.parameters()], "peak": recipe.learning_rate * recipe.head_rate, "weight_decay": 0.0}
    )
    return [group for group in groups if group["params"]]


def _depths(encoder: nn.Module, layer_decay: float) -> list[tuple[Tensor, int]]:
    """Each parameter with its distance from the top layer; 0 for all of them where that makes no difference."""
    if layer_decay == 1.0:
        return [(p, 0) for p in encoder.parameters()]
    layers = layers_of(encoder)
    depth = {p: len(layers) - 1 - k for k, layer in enumerate(layers) for p in layer.parameters()}
    return [(p, depth.get(p, len(layers))) for p in encoder.parameters()]

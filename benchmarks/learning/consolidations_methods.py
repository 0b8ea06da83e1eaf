"""The rows of `consolidations.py`: each method by what differs from the defaults."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from benchmarks.methods.averages import Interpolation, RunningAverage
from benchmarks.methods.freelb import FreeLB
from benchmarks.methods.terms import Contrastive, LogitMatching, Mixup
from worker.consolidation.training.methods.method import Method


@dataclass(frozen=True, slots=True)
class Variant:
    """Settings that differ from the defaults, and makers of methods that no setting turns on."""

    settings: dict[str, Any] = field(default_factory=dict)
    more: tuple[Callable[[], Method], ...] = ()


def _with(*more: Callable[[], Method], **settings: Any) -> Variant:
    return Variant(settings, more)


METHODS: dict[str, Variant] = {
    "default": _with(),
    "frozen": _with(freeze="head"),
    "plain": _with(adversarial="off"),
    "fgm 0.5": _with(adversarial_radius=0.5),
    "freelb": _with(FreeLB, adversarial="off"),
    "freelb 0.5": _with(partial(FreeLB, 0.5), adversarial="off"),
    "contrastive": _with(partial(Contrastive, 0.5)),
    "mixup": _with(partial(Mixup, 0.4)),
    "token dropout": _with(token_dropout=0.1),
    "ema": _with(partial(RunningAverage, 0.98)),
    "wise-ft 0.8": _with(partial(Interpolation, 0.8)),
    "l2-sp": _with(l2_sp=0.01),
    "top-3": _with(freeze="top-3"),
    "top-6": _with(freeze="top-6"),
    "lora 8": _with(lora_rank=8),
    "3 epochs": _with(epochs=3.0),
    "8 epochs": _with(epochs=8.0),
    "3 epochs, early stopping": _with(epochs=3.0, validation_share=0.1),
    "early stopping": _with(validation_share=0.1),
    "rate 1e-4": _with(learning_rate=1e-4),
    "rate 2e-4": _with(learning_rate=2e-4),
    "batch 16": _with(train_batch=16),
    "no warm-up": _with(warmup=0.0),
    "no distillation": _with(distillation=0.0),
    "distillation x 3": _with(distillation=3.0),
    "distillation temperature 4": _with(distillation_temperature=4.0),
    "der++": _with(partial(LogitMatching, 0.1), distillation=0.0),
    "no replay": _with(replay_per_class=0),
}

"""All training methods. A new method is one file beside this one and one entry here."""

from __future__ import annotations

from pawl.settings import Settings
from worker.consolidation.training.methods.adversarial import FastGradient
from worker.consolidation.training.methods.distillation import Distillation
from worker.consolidation.training.methods.l2_sp import L2SP
from worker.consolidation.training.methods.lora import LowRankAdapters
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.methods.token_dropout import TokenDropout

METHODS: tuple[type[Method], ...] = (LowRankAdapters, L2SP, TokenDropout, FastGradient, Distillation)
"""In the order in which their hooks are called: adapters decide first which parameters train at all."""


def methods_of(settings: Settings) -> list[Method]:
    """The methods that the settings turn on."""
    return [method for kind in METHODS if (method := kind.of(settings)) is not None]

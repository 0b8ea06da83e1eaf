"""The rows of `consolidations.py`: each method by the settings that differ from the defaults."""

from __future__ import annotations

from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "frozen": {"freeze": "head"},
    "class weights sqrt": {"class_weights": "sqrt"},
    "class weights balanced": {"class_weights": "balanced"},
    "fgm": {"adversarial": "fgm"},
    "fgm 0.5": {"adversarial": "fgm", "adversarial_radius": 0.5},
    "freelb": {"adversarial": "freelb"},
    "freelb 0.5": {"adversarial": "freelb", "adversarial_radius": 0.5},
    "contrastive": {"contrastive": 0.5},
    "mixup": {"mixup": 0.4},
    "token dropout": {"token_dropout": 0.1},
    "ema": {"ema_decay": 0.98},
    "wise-ft 0.8": {"wise_ft": 0.8},
    "wise-ft by validation": {"wise_ft": "validation", "validation_share": 0.1},
    "l2-sp": {"l2_sp": 0.01},
    "ewc": {"ewc": 0.01},
    "top-3": {"freeze": "top-3"},
    "top-6": {"freeze": "top-6"},
    "lora 8": {"lora_rank": 8},
    "layer decay 0.8": {"layer_decay": 0.8},
    "3 epochs": {"epochs": 3.0},
    "8 epochs": {"epochs": 8.0},
    "3 epochs, early stopping": {"epochs": 3.0, "validation_share": 0.1},
    "early stopping": {"validation_share": 0.1},
    "contrastive, fgm": {"contrastive": 0.5, "adversarial": "fgm"},
    "rate 1e-4": {"learning_rate": 1e-4},
    "rate 2e-4": {"learning_rate": 2e-4},
    "batch 16": {"train_batch": 16},
    "no warm-up": {"warmup": 0.0},
    "no distillation": {"distillation": 0.0},
    "distillation x 3": {"distillation": 3.0},
    "distillation temperature 4": {"distillation_temperature": 4.0},
    "der++": {"distillation": 0.0, "logit_matching": 0.1},
    "replay hardest": {"replay": "hardest"},
    "replay reservoir": {"replay": "reservoir"},
    "no replay": {"replay_per_class": 0},
}

"""The rows of `consolidations.py`: each method by the settings that differ from the defaults."""

from __future__ import annotations

from typing import Any

METHODS: dict[str, dict[str, Any]] = {
    "default": {},
    "frozen": {"freeze": "head"},
    "class weights sqrt": {"class_weights": "sqrt"},
    "class weights balanced": {"class_weights": "balanced"},
    "fgm": {"adversarial": "fgm"},
    "fgm 0.15": {"adversarial": "fgm", "adversarial_radius": 0.15},
    "freelb": {"adversarial": "freelb"},
    "freelb 0.15": {"adversarial": "freelb", "adversarial_radius": 0.15},
    "contrastive": {"contrastive": 0.5},
    "mixup": {"mixup": 0.4},
    "token dropout": {"token_dropout": 0.1},
    "ema": {"ema_decay": 0.98},
    "wise-ft": {"wise_ft": "validation"},
    "l2-sp": {"l2_sp": 0.01},
    "ewc": {"ewc": 0.01},
    "top-3": {"freeze": "top-3"},
    "top-6": {"freeze": "top-6"},
    "lora 8": {"lora_rank": 8},
    "layer decay 0.8": {"layer_decay": 0.8},
    "5 epochs": {"epochs": 5.0, "patience": 100},
    "5 epochs, no validation": {"epochs": 5.0, "validation_share": 0.0},
    "5 epochs, fgm": {"epochs": 5.0, "patience": 100, "adversarial": "fgm"},
    "5 epochs, no validation, fgm": {"epochs": 5.0, "validation_share": 0.0, "adversarial": "fgm"},
    "5 epochs, no validation, fgm 0.15": {
        "epochs": 5.0,
        "validation_share": 0.0,
        "adversarial": "fgm",
        "adversarial_radius": 0.15,
    },
    "5 epochs, no validation, rate 1e-4": {"epochs": 5.0, "validation_share": 0.0, "learning_rate": 1e-4},
    "5 epochs, no validation, contrastive": {"epochs": 5.0, "validation_share": 0.0, "contrastive": 0.5},
    "8 epochs, no validation": {"epochs": 8.0, "validation_share": 0.0},
    "rate 1e-4": {"learning_rate": 1e-4},
    "rate 2e-4": {"learning_rate": 2e-4},
    "batch 16": {"train_batch": 16},
    "no validation": {"validation_share": 0.0},
    "no distillation": {"distillation": 0.0},
    "der++": {"distillation": 0.0, "logit_matching": 0.1},
    "replay hardest": {"replay": "hardest"},
    "replay reservoir": {"replay": "reservoir"},
    "no replay": {"replay_per_class": 0},
}

"""Settings of the consolidation: when it runs, what it trains on, and by which methods.

A method that is off costs nothing. `worker/consolidation/training/methods/` has one file for each, with its source and
its measured effect; what is on by default was decided on validation samples (`docs/log.md`, ADR 0010).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ConsolidationSettings(BaseModel):
    """A part of `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    consolidate_after: int = Field(default=0, ge=0)
    """New samples that trigger a consolidation; 0 means only on request."""
    consolidate_age_hours: float = Field(default=0.0, ge=0.0)
    """Age of the oldest sample the encoder has not seen that triggers one; 0 means never."""
    yield_after_ms: float = Field(default=100.0, ge=0.0, le=60_000.0)
    """A consolidation stands still while a text waits longer than this for its answer, two seconds of three at most;
    0: it never does.
    """
    coreset: int = Field(default=50_000, ge=100)
    """Stored samples re-embedded after a consolidation at most (class-balanced beyond it)."""

    freeze: str = Field(default="auto", pattern="^(auto|head|all|top-[1-9][0-9]*)$")  # ADR 0028
    """What a consolidation trains: `all` of the encoder, `top-k` layers of it (never the embeddings then), the `head`
    alone (no encoder training), or what its size allows (`auto`): all of one with up to 40 million parameters, else as
    many upper layers as have 30 million together.
    """
    lora_rank: int = Field(default=0, ge=0, le=1024)
    """Rank of low-rank adapters trained instead of the layers' own weights, at ten times the learning rate, and merged
    before the export; 0: off. LoRA (Hu et al., ICLR 2022).
    """

    epochs: float = Field(default=5.0, gt=0.0, le=100.0)
    """Passes over new samples and replay."""
    learning_rate: float = Field(default=5e-5, gt=0.0, lt=1.0)
    """Peak learning rate of AdamW."""
    warmup: float = Field(default=0.1, ge=0.0, le=1.0)
    """Share of the steps that warm up; the rest decays linearly to zero."""
    weight_decay: float = Field(default=0.01, ge=0.0)
    """Weight decay of AdamW (not on biases and norms)."""
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    train_batch: int = Field(default=32, ge=1, le=4096)
    """Samples in a training step at most."""
    train_tokens: int = Field(default=0, ge=0)
    """Tokens, with padding, in a training step at most; 0: no limit but that of samples."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """bfloat16 autocast in training: `auto` where the device computes it natively."""
    validation_share: float = Field(default=0.0, ge=0.0, le=0.5)
    """Share of the new samples that the encoder is not trained on, whose best evaluation is kept and which decide when
    to stop; 0: every sample is trained on and the schedule runs to its end (ADR 0010).
    """
    patience: int = Field(default=4, ge=1)
    """Evaluations (two in an epoch) without improvement on validation before training stops. Early stopping (Prechelt,
    1998).
    """

    replay_per_class: int = Field(default=200, ge=0)
    """Old samples replayed for each class at most."""
    distillation: float = Field(default=0.5, ge=0.0)
    """Weight of the distillation loss on replayed texts: softened answers of the live model (Hinton et al., 2015; Li &
    Hoiem, LwF, ECCV 2016).
    """
    distillation_temperature: float = Field(default=2.0, gt=0.0)
    """Temperature of the distillation loss."""
    l2_sp: float = Field(default=0.0, ge=0.0)
    """Weight of the squared distance of the encoder's weights to where they started; 0: off. L2-SP (Li et al., ICML
    2018).
    """
    adversarial: Literal["off", "fgm"] = "fgm"  # ADR 0028
    """Train on worst-case shifts of the word vectors as well: FGM (Miyato et al., ICLR 2017), for twice the time."""
    adversarial_radius: float = Field(default=0.15, gt=0.0)
    """Length of such a shift over a whole text, as a multiple of the mean length of a word vector."""
    token_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the tokens hidden at random in each training step; 0: off. Word dropout (Iyyer et al., ACL 2015)."""

"""Settings of the consolidation: when it runs, what it trains on, and by which methods.

A method that is off costs nothing. Each names its source; which of them are on by default was decided on validation
samples, see `docs/log.md` and ADR 0010.
"""

from __future__ import annotations

from typing import Annotated, Literal

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

    freeze: str = Field(default="all", pattern="^(head|all|top-[1-9][0-9]*)$")
    """What a consolidation trains: `all` layers, `top-k` of them (never the embeddings then), or the `head` alone (no
    encoder training).
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
    layer_decay: float = Field(default=1.0, gt=0.0, le=1.0)
    """Each layer's learning rate as a share of that of the layer above it; 1: all the same. Discriminative fine-tuning
    (Howard & Ruder, ULMFiT, ACL 2018).
    """
    max_grad_norm: float = Field(default=1.0, gt=0.0)
    """Gradients are clipped to this norm."""
    train_batch: int = Field(default=32, ge=1, le=4096)
    """Samples in a training step at most."""
    train_tokens: int = Field(default=0, ge=0)
    """Tokens, with padding, in a training step at most; 0: no limit but that of samples."""
    bf16: Literal["auto", "on", "off"] = "auto"
    """bfloat16 autocast in training: `auto` where the device computes it natively."""
    compile: bool = False
    """Compile the encoder's training step with `torch.compile`; pays on a GPU and for long trainings only (needs a C++
    compiler).
    """
    validation_share: float = Field(default=0.0, ge=0.0, le=0.5)
    """Share of the new samples that the encoder is not trained on, whose best evaluation is kept and which decide when
    to stop; 0: every sample is trained on and the schedule runs to its end (ADR 0010).
    """
    patience: int = Field(default=4, ge=1)
    """Evaluations (two in an epoch) without improvement on validation before training stops. Early stopping (Prechelt,
    1998).
    """

    replay: Literal["balanced", "reservoir", "hardest"] = "balanced"
    """Which old samples are replayed: equally many of each class; `reservoir`, uniformly (Vitter, 1985; Chaudhry et
    al., 2019); or those of each class with the highest leave-one-out loss of the live head, after MIR (Aljundi et
    al., NeurIPS 2019).
    """
    replay_per_class: int = Field(default=200, ge=0)
    """Old samples replayed for each class at most (`reservoir`: on average)."""
    class_weights: Literal["off", "sqrt", "balanced"] = "off"
    """Weight of a sample in the loss by the size n of its class: all equal, 1 / sqrt(n) or 1 / n (King & Zeng, 2001;
    Mahajan et al., ECCV 2018), mean 1.
    """

    distillation: float = Field(default=0.5, ge=0.0)
    """Weight of the distillation loss on replayed texts: softened answers of the live model (Hinton et al., 2015; Li &
    Hoiem, LwF, ECCV 2016).
    """
    distillation_temperature: float = Field(default=2.0, gt=0.0)
    """Temperature of the distillation loss."""
    logit_matching: float = Field(default=0.0, ge=0.0)
    """Weight of the squared distance to the live model's logits on replayed texts; 0: off. DER++ (Buzzega et al.,
    NeurIPS 2020).
    """
    contrastive: float = Field(default=0.0, ge=0.0)
    """Weight of the supervised contrastive loss between the embeddings of a batch; 0: off (Khosla et al., NeurIPS
    2020; for fine-tuning Gunel et al., ICLR 2021).
    """
    contrastive_temperature: float = Field(default=0.3, gt=0.0)
    """Temperature of the supervised contrastive loss."""

    l2_sp: float = Field(default=0.0, ge=0.0)
    """Weight of the squared distance of the encoder's weights to where they started; 0: off. L2-SP (Li et al., ICML
    2018).
    """
    ewc: float = Field(default=0.0, ge=0.0)
    """The same with each weight's distance scaled by its Fisher information on replayed texts (mean 1); 0, or nothing
    to replay: off. EWC (Kirkpatrick et al., PNAS 2017).
    """
    wise_ft: Annotated[float, Field(ge=0.0, le=1.0)] | Literal["validation"] = 1.0
    """Share of the new weights in the average of old and new ones; 1: off; `validation` picks it there. WiSE-FT
    (Wortsman et al., CVPR 2022).
    """
    ema_decay: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Decay of a running average of the weights, which is what is evaluated and kept; 0: off (Polyak & Juditsky, 1992;
    Tarvainen & Valpola, NeurIPS 2017).
    """

    adversarial: Literal["off", "fgm", "freelb"] = "off"
    """Train on worst-case shifts of the word vectors as well: FGM (Miyato et al., ICLR 2017), twice the time and the
    first thing to try where accuracy counts for more (ADR 0010); FreeLB (Zhu et al., ICLR 2020), `adversarial_steps`
    times the time.
    """
    adversarial_radius: float = Field(default=0.15, gt=0.0)
    """Length of such a shift over a whole text, as a multiple of the mean length of a word vector."""
    adversarial_steps: int = Field(default=3, ge=2, le=16)
    """Steps of FreeLB."""
    mixup: float = Field(default=0.0, ge=0.0)
    """alpha of the Beta(alpha, alpha) that mixes pairs of embeddings and their labels; 0: off. Mixup (Zhang et al.,
    ICLR 2018), on sentences (Guo et al., 2019).
    """
    token_dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    """Share of the tokens hidden at random in each training step; 0: off. Word dropout (Iyyer et al., ACL 2015)."""

"""LoRA: low-rank adapters W + (alpha / r) B A are trained instead of the weights W, and merged at the end. By peft.

Hu et al., "LoRA: Low-rank adaptation of large language models", ICLR 2022.

Off by default. Measured 2026-11-25 (docs/log.md), rank 8 against the defaults: FinancialPhraseBank 82.04 instead of
81.78 % (11 gained, 9 lost; 109 s instead of 135), Banking77 87.19 instead of 87.29 (15 and 18), CLINC150 92.67 instead
of 92.97 (15 and 24, p = 0.2): no better, in less time and with a hundredth of the optimiser's memory, which is what it
is for.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from torch import nn

from pawl.domain.errors import EncoderRejected
from pawl.settings import Settings
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.network import Network


class LowRankAdapters(Method):
    """Adapters in the linear layers that the freeze policy would train; everything else of the encoder is frozen.

    B starts at zero, so at first the network is what it was. alpha = 2 r, no dropout.
    """

    encoder_rate: ClassVar[float] = 10.0

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._model: Any = None

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """`PAWL_LORA_RANK`."""
        return cls(settings.lora_rank) if settings.lora_rank else None

    def before_training(self, network: Network, /) -> None:
        """Puts adapters into the encoder, in place. Raises `EncoderRejected` for what is no transformer."""
        from peft import LoraConfig, LoraModel  # loads for seconds: only where it is asked for

        transformer: Any = _transformer(network.encoder)
        targets = [
            name
            for name, module in transformer.named_modules()
            # Asked before peft freezes all that is no adapter.
            if isinstance(module, nn.Linear) and module.weight.requires_grad
        ]
        config = LoraConfig(r=self._rank, lora_alpha=2 * self._rank, target_modules=targets)
        self._model = LoraModel(transformer, config, "default")  # changes the transformer in place

    def after_training(self) -> None:
        """Adds the adapters to the weights and takes them out: the encoder is then as the export knows it."""
        self._model.merge_and_unload()


def _transformer(encoder: nn.Module) -> nn.Module:
    for module in encoder.modules():
        if hasattr(module, "get_input_embeddings"):
            return module
    raise EncoderRejected(path=type(encoder).__name__, problem="it is not a transformer that adapters are known for")

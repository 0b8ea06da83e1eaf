"""Low-rank adapters: W + (alpha / r) B A with only A and B trained. LoRA (Hu et al., ICLR 2022), by peft."""

from __future__ import annotations

from typing import Any

from torch import nn

from pawl.domain.errors import EncoderRejected

RATE = 10.0
"""The adapters' learning rate as a multiple of the encoder's, whose weights are not trained then."""


class Adapters:
    """Adapters in the linear layers that the freeze policy would train; everything else of the encoder is frozen.

    B starts at zero, so at first the network is what it was. alpha = 2 r, no dropout.
    """

    def __init__(self, encoder: nn.Module, rank: int) -> None:
        from peft import LoraConfig, LoraModel  # loads for seconds: only where it is asked for

        transformer: Any = _transformer(encoder)
        targets = [
            name
            for name, module in transformer.named_modules()
            if isinstance(module, nn.Linear) and module.weight.requires_grad
        ]
        config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=targets)
        self._model = LoraModel(transformer, config, "default")  # changes the transformer in place

    def merge(self) -> None:
        """Adds the adapters to the weights and takes them out: the encoder is then as the export knows it."""
        self._model.merge_and_unload()


def _transformer(encoder: nn.Module) -> nn.Module:
    for module in encoder.modules():
        if hasattr(module, "get_input_embeddings"):
            return module
    raise EncoderRejected(path=type(encoder).__name__, problem="it is not a transformer that adapters are known for")

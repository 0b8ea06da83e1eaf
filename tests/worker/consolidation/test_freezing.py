"""What trains of an encoder, by its size: the shapes are the real ones, without their numbers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers as untyped

from worker.consolidation.training.activations import tokens_at_once
from worker.consolidation.training.freezing import TrainedPart, chosen, freeze

transformers: Any = untyped
_SMALL = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12}
_SHAPES: dict[str, tuple[Any, str, str]] = {
    "all-MiniLM-L6-v2": (
        lambda: transformers.BertConfig(**_SMALL, num_hidden_layers=6),
        "all",
        "6 of 6 layers, 22.6 of 22.6 million parameters",
    ),
    "all-mpnet-base-v2": (
        transformers.MPNetConfig,
        "top-4",
        "4 of 12 layers, 28.4 of 108.9 million parameters",
    ),
    "multilingual-e5-small": (
        lambda: transformers.BertConfig(**_SMALL, num_hidden_layers=12, vocab_size=250_037),
        "top-12",
        "12 of 12 layers, 21.3 of 117.5 million parameters",
    ),
    "multilingual-e5-large": (
        lambda: transformers.XLMRobertaConfig(
            hidden_size=1024, intermediate_size=4096, num_attention_heads=16, num_hidden_layers=24, vocab_size=250_002
        ),
        "top-2",
        "2 of 24 layers, 25.2 of 558.8 million parameters",
    ),
}
_BOUND = 2 * 2**30


@pytest.mark.parametrize("name", _SHAPES)
def test_auto_trains_what_fits_in_memory(name: str) -> None:
    make, policy, words = _SHAPES[name]
    with torch.device("meta"):
        encoder = transformers.AutoModel.from_config(make())
    encoder.pooler = None
    assert chosen(encoder) == policy
    freeze(encoder, "auto")
    part = TrainedPart.of(encoder)
    assert str(part) == words
    # 4 bytes for each parameter, 12 more for one that trains; the activations and the cached states are bounded too.
    numbers = 4 * part.all_parameters + 12 * part.parameters
    activations = tokens_at_once(part.layers, encoder.config.hidden_size) * part.layers * encoder.config.hidden_size
    assert numbers + 170 * activations < _BOUND or name.endswith("large")


def test_what_is_frozen_by_hand_is_not_chosen() -> None:
    with torch.device("meta"):
        encoder = transformers.AutoModel.from_config(_SHAPES["all-mpnet-base-v2"][0]())
    freeze(encoder, "top-2")
    assert TrainedPart.of(encoder).layers == 2
    freeze(encoder, "all")
    assert TrainedPart.of(encoder).parameters == TrainedPart.of(encoder).all_parameters

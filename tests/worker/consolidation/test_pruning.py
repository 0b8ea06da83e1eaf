"""Structured pruning: what does not matter goes, once, and what went is distilled into what is left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.export import write_encoder
from pawl.domain.errors import EncoderRejected
from tests.intents import labelled
from tests.tiny_encoder import exported_tiny_encoder
from worker.consolidation.pruning import compress, prune
from worker.consolidation.training.callbacks import Callbacks, Metrics
from worker.consolidation.training.network import layers_of

TEXTS = [text for text, _ in labelled(96)]
WIDTH = 64


@pytest.fixture
def encoder() -> TorchEncoder:
    return TorchEncoder(exported_tiny_encoder()[0])


def _blocks(encoder: TorchEncoder) -> list[tuple[nn.Linear, nn.Linear]]:
    """The feed-forward matrices of each layer."""
    found = []
    for layer in layers_of(encoder.module):
        up, down = layer.get_submodule("intermediate.dense"), layer.get_submodule("output.dense")
        assert isinstance(up, nn.Linear)
        assert isinstance(down, nn.Linear)
        found.append((up, down))
    return found


@settings(max_examples=10)
@given(st.sets(st.integers(0, WIDTH - 1), min_size=32, max_size=32))
def test_neurons_that_do_nothing_go_first_and_are_not_missed(idle: set[int]) -> None:
    encoder = TorchEncoder(exported_tiny_encoder()[0])
    for _, down in _blocks(encoder):
        with torch.no_grad():
            down.weight[:, sorted(idle)] = 0.0
    before = encoder.encode(TEXTS[:8])
    assert prune(encoder.module.model, 0.5) == (WIDTH, 32)
    assert [(up.out_features, down.in_features) for up, down in _blocks(encoder)] == [(32, 32)] * 2
    np.testing.assert_allclose(encoder.encode(TEXTS[:8]), before, atol=1e-5)


def test_the_share_is_of_what_there_was_at_first_also_after_a_reload(encoder: TorchEncoder, tmp_path: Path) -> None:
    assert prune(encoder.module.model, 0.25) == (64, 48)
    tokenizer = (encoder.folder / "tokenizer.json").read_text()
    write_encoder(encoder.module.model, tokenizer, encoder.spec, tmp_path / "pruned")
    loaded = TorchEncoder(tmp_path / "pruned")
    np.testing.assert_allclose(loaded.encode(TEXTS), encoder.encode(TEXTS), atol=1e-5)
    assert prune(loaded.module.model, 0.25) == (48, 48), "a second consolidation takes nothing more"
    assert prune(loaded.module.model, 0.5) == (48, 32)
    assert prune(loaded.module.model, 0.25) == (32, 32), "what is gone does not come back"


def test_distillation_brings_the_embeddings_back(encoder: TorchEncoder) -> None:
    def distance(other: TorchEncoder) -> float:
        return float(np.square(other.encode(TEXTS) - before).sum(axis=1).mean())

    told: list[tuple[int, int]] = []
    pruned = TorchEncoder(encoder.folder)
    for up, down in [*_blocks(encoder), *_blocks(pruned)]:  # a random encoder's blocks do almost nothing
        with torch.no_grad():
            up.weight.mul_(10.0)
            down.weight.mul_(10.0)
    before = encoder.encode(TEXTS)
    prune(pruned.module.model, 0.5)

    def report(step: int, steps: int, _: Metrics) -> None:
        told.append((step, steps))

    done = compress(encoder, TEXTS * 8, 0.5, 0, bf16=False, callbacks=Callbacks(report=report))
    assert distance(encoder) < 0.5 * distance(pruned)
    assert (done["width_before"], done["width"]) == (64, 32)
    assert 0 < done["distance"] < done["distance_at_first"]
    assert (told[0], told[-1]) == ((1, done["steps"]), (done["steps"], done["steps"]))
    after = encoder.encode(TEXTS)
    assert compress(encoder, TEXTS, 0.5, 0, bf16=False) == {"width": 32}
    np.testing.assert_array_equal(encoder.encode(TEXTS), after)


def test_a_transformer_without_such_blocks_is_refused(encoder: TorchEncoder) -> None:
    with pytest.raises(EncoderRejected, match="no intermediate_size"):
        prune(nn.Linear(2, 2), 0.5)
    encoder.module.model.config.intermediate_size = 100
    with pytest.raises(EncoderRejected, match="no pair of feed-forward matrices"):
        prune(encoder.module.model, 0.5)

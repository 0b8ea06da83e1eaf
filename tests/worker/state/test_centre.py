"""An encoder whose embeddings share a large mean: its centre is chosen with its first features and then held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from pawl.classifier.classifier import load_classifier
from tests.learners import new_learner, opened
from tests.multilingual_encoder import write_multilingual_encoder
from tests.processes import LENIENT, Installer

_PROBES = ["where is my card", "我的卡还没有到", "a transfer failed"]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """All texts have nearly the same last state."""
    folder = write_multilingual_encoder(tmp_path / "encoder")
    weights = load_file(folder / "model.safetensors")
    weights["encoder.layer.1.output.LayerNorm.bias"] += 3.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


async def test_the_centre_is_held_from_version_to_version_and_after_a_restart(install: Installer, source: Path) -> None:
    pawl = install.empty(**LENIENT, encoder=source, max_tokens=64, pooled_layers=2)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        first = await learner.runner.catch_up()
        assert first is not None
        centre = first.features.centre
        assert centre is not None
        assert np.linalg.norm(centre[: first.features.widened]) > 0.7
        z = first.encoder.encode(_PROBES)
        assert (z @ z.T).min() > 1.4, "two layers, of which the last says hardly anything"
        phi = first.features.expand(z)
        for part in (phi[:, :32], phi[:, 32:64]):
            np.testing.assert_allclose(np.linalg.norm(part, axis=1), 1.0, atol=1e-5)
        assert (phi[:, :32] @ phi[:, :32].T).min() < 0.5
        await learner.accept([("a wholly new text", "card"), ("密码忘记怎么办", "card")])
        await learner.learn_queued()
        live = await learner.runner.catch_up()
        assert live is not None
        assert live.version == first.version + 1
        assert live.features is first.features
        classifier = load_classifier(learner.artefacts.open(live.version), encoder=live.encoder)
        assert classifier.features.centre is not None
        assert np.array_equal(classifier.features.centre, centre)
        again = await new_learner(pawl.settings, engine).runner.catch_up()
        assert again is not None
        assert again.features.digest == live.features.digest
        weights = [state.tasks["default"].stacked.weights["semantic"] for state in (live, again)]
        assert torch.allclose(weights[0], weights[1], atol=1e-6)

"""The quick forms of `make chaos`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.scenes import full_artefacts, killed_worker
from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture
def encoder(short_folder: Path) -> Path:
    folder = short_folder / "chaos-encoder"
    return folder if folder.is_dir() else write_tiny_encoder(folder)


@pytest.mark.timeout(600)
def test_a_killed_learner_costs_no_prediction_and_no_feedback(short_folder: Path, encoder: Path) -> None:
    outcome = killed_worker(short_folder / "kills", encoder, kills=6, seconds=6.0)
    assert outcome.kills == 6
    assert outcome.answered > 10
    assert outcome.failures == []
    assert set(outcome.states) == {"learned"}, outcome.told()


@pytest.mark.timeout(600)
def test_a_full_artefact_volume_makes_no_label_dead(short_folder: Path, encoder: Path) -> None:
    """Longer than a label would have lived that was blamed for it."""
    outcome = full_artefacts(short_folder / "full", encoder, corrections=20, seconds=8.0)
    assert outcome.failures == []
    assert outcome.states == {"learned": 20}, outcome.told()
    assert outcome.problems or outcome.means != "a small tmpfs", "the learner says what is in its way"

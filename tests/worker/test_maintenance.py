"""A choice of a backend that was made on a busy machine is measured again by the learner, in a quiet moment."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from pawl.backoff import Backoff
from pawl.classifier.encoders.choice import Backends
from pawl.domain.manifest import ENCODER_FOLDER
from tests.polling import eventually
from tests.processes import PATIENCE, Installer
from worker import maintenance as housekeeping
from worker.assembly import open_learner


async def test_a_doubtful_choice_is_measured_again_by_the_learner(
    install: Installer, monkeypatch: pytest.MonkeyPatch
) -> None:
    pawl = install.trained(backend="auto")
    folder = pawl.settings.artefacts_path / "versions" / "00000001"
    digest = json.loads((folder / "manifest.json").read_text())["encoder_digest"]
    record = pawl.home / "backends.json"
    Backends.of(pawl.settings).open(folder / ENCODER_FOLDER, digest)
    kept = json.loads(record.read_text())
    for choice in kept["choices"].values():
        choice["result"] |= {"doubt": "the machine was busy", "ratio": 9.0}
    record.write_text(json.dumps(kept))
    monkeypatch.setattr(housekeeping, "_REVIEW", Backoff(rest=0.1))
    monkeypatch.setattr("pawl.classifier.encoders.choice.comparison._all_seconds", lambda: 0.0)  # whatever others do
    monkeypatch.setattr("pawl.classifier.encoders.choice.comparison._WIDE", 1e9)
    async with open_learner(pawl.settings) as loop:
        learning = asyncio.create_task(loop.run())
        try:
            choice = await eventually(lambda: _sure(record), PATIENCE, every=0.1)
        finally:
            loop.stop()
            await learning
    assert choice["ratio"] != 9.0


def _sure(record: Path) -> dict[str, Any] | None:
    found = [choice["result"] for choice in json.loads(record.read_text())["choices"].values()]
    return next((dict(choice) for choice in found if not choice["doubt"]), None)

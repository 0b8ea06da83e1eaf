"""Encoders of other architectures through the real child process, with lower layers frozen as for the large ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.spec import encoder_digest
from tests.pawl.classifier.architectures import write_encoder_of
from tests.worker.consolidation.world import labelled, open_world

_DEADLINE = 280.0
pytestmark = pytest.mark.timeout(600)


@pytest.mark.parametrize("architecture", ["mpnet", "xlm-roberta"])
async def test_the_upper_layer_of_another_architecture_trains_and_nothing_else(
    architecture: str, tmp_path: Path
) -> None:
    source = write_encoder_of(architecture, tmp_path / "source")
    export_encoder(str(source), tmp_path / "encoder", max_tokens=32)
    world = await open_world(tmp_path / "home", freeze="top-1", epochs="2")
    world.encoder = tmp_path / "encoder"
    try:
        await world.learn(labelled(120))
        job = await world.write_job(tmp_path / "job")
    finally:
        await world.engine.dispose()
    with world.start(job) as child:
        stdout, stderr = await asyncio.to_thread(child.communicate, None, _DEADLINE)
    assert child.returncode == 0, stderr
    lines = [json.loads(line) for line in stdout.splitlines()]
    result = json.loads((job / "result.json").read_text())
    assert result["encoder_digest"] == encoder_digest(job / "encoder") != encoder_digest(world.encoder)
    assert result["metrics"]["trained"].startswith("1 of 2 layers")
    assert result["metrics"]["cached_states"], "the frozen layer runs once for each text, also with FGM"
    reported = [line for line in lines if line["phase"] == "training" and "trains" in line]
    assert all(line["trains"] == result["metrics"]["trained"] and line["seconds_left"] >= 0 for line in reported)
    before, after = (load_file(folder / "model.safetensors") for folder in (world.encoder, job / "encoder"))
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed
    assert all(".layer.1." in name for name in changed)

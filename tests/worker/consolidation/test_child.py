"""The real child process on SQLite: its result, and what is left when it is killed."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.spec import encoder_digest
from pawl.domain.samples import Split
from tests.polling import has_ended
from tests.worker.consolidation.world import World

_DEADLINE = 280.0  # the child is nice: on a machine that others keep busy it may take minutes
pytestmark = pytest.mark.timeout(900)
_PARENT = "import subprocess, sys; c = subprocess.Popen(sys.argv[1:]); print(c.pid, flush=True); c.wait()"


async def _finish(world: World, job: Path) -> tuple[int, list[dict[str, Any]], str]:
    """Runs the child; its exit code, its lines, and stderr."""
    child = world.start(job)
    try:
        stdout, stderr = await asyncio.to_thread(child.communicate, None, _DEADLINE)
    finally:
        child.kill()
    return child.returncode, [json.loads(line) for line in stdout.splitlines()], stderr


def _start_and_wait_for_training(world: World, job: Path) -> subprocess.Popen[str]:
    """A child that has taken some steps of a training that would last for hours."""
    world.options |= {"epochs": "100", "train_batch": "1", "patience": "10000", "bf16": "off"}
    child = world.start(job)
    assert child.stdout is not None
    for line in child.stdout:
        progress = json.loads(line)
        if progress["phase"] == "training" and progress["done"] > 0:
            return child
    raise AssertionError(f"it ended with {child.wait()}: {child.stderr.read() if child.stderr else ''}")


@pytest.mark.parametrize(
    ("compression", "precision", "width"),
    [("none", "float32", 64), ("int8", "int8", 64), ("prune:0.5+int8", "int8", 32)],
)
async def test_the_result_is_complete_and_the_same_for_the_same_seed(
    world: World, tmp_path: Path, compression: str, precision: str, width: int
) -> None:
    world.options |= {"epochs": "8", "validation_share": "0.1", "patience": "1000", "compression": compression}
    before = world.contents()
    job = await world.write_job(tmp_path / "job", seed=3)
    code, lines, stderr = await _finish(world, job)
    assert code == 0, stderr
    assert world.contents() == before
    phases = list(dict.fromkeys(line["phase"] for line in lines))
    compressing = ["compressing"] if compression.startswith("prune") else []
    assert phases == ["loading", "training", *compressing, "exporting", "embedding", "done"]
    result = json.loads((job / "result.json").read_text())
    assert result["encoder_digest"] == encoder_digest(job / "encoder")
    live = await world.ledger.live()
    assert live is not None
    assert result["encoder_digest"] != live.encoder_digest
    assert result["metrics"]["validation_after"] > result["metrics"]["validation_before"]
    assert list(result["metrics"]["wall_s"]) == phases[:-1]
    assert json.loads((job / "encoder" / "config.json").read_text())["intermediate_size"] == width

    stored = {s.id: s for task in ("default", "mood") for s in await world.samples.learned(task)}
    golden = {s.id: s for s in await world.samples.golden("default", 100)}
    trained = {sample_id: stored[sample_id] for sample_id in result["trained"]}
    assert len(golden) == 5
    assert result["samples_new"] == len(trained) > 100
    assert result["samples_replayed"] == 0
    assert {s.split for s in trained.values()} == {Split.TRAIN}
    assert not {s.text_digest for s in trained.values()} & {s.text_digest for s in golden.values()}

    ids = json.loads((job / "ids.json").read_text())
    z = load_file(job / "embeddings.safetensors")["z"]
    assert set(ids) == stored.keys() | golden.keys()
    encoder = OnnxEncoder(job / "encoder", threads=1, digest=result["encoder_digest"])
    assert encoder.spec.precision == precision
    np.testing.assert_allclose(z, encoder.encode([(stored | golden)[i].text for i in ids]), atol=1e-5)

    again = await world.write_job(tmp_path / "again", seed=3)
    code, _, stderr = await _finish(world, again)
    assert code == 0, stderr
    second = json.loads((again / "result.json").read_text())
    assert (second["encoder_digest"], second["trained"]) == (result["encoder_digest"], result["trained"])
    assert np.array_equal(load_file(again / "embeddings.safetensors")["z"], z)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_killed_while_training_it_leaves_everything_as_it_was(
    world: World, tmp_path: Path, how: signal.Signals
) -> None:
    before = world.contents()
    job = await world.write_job(tmp_path / "job")
    child = await asyncio.to_thread(_start_and_wait_for_training, world, job)
    with child:  # closes its pipes
        child.send_signal(how)
        assert await asyncio.to_thread(child.wait, _DEADLINE) == -how
    assert [path.name for path in job.iterdir()] == ["job.json"]
    assert world.contents() == before


async def test_it_ends_when_its_parent_has_died(world: World, tmp_path: Path) -> None:
    job = await world.write_job(tmp_path / "job")
    world.options |= {"epochs": "100", "train_batch": "1", "patience": "10000", "bf16": "off"}
    with world.start(job, before=(sys.executable, "-c", _PARENT)) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        assert json.loads(await asyncio.to_thread(parent.stdout.readline))["phase"] == "loading"
        parent.kill()
    deadline = time.monotonic() + _DEADLINE
    while not has_ended(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        await asyncio.sleep(0.05)
    assert not (job / "result.json").exists()


async def test_it_ends_when_its_parent_died_before_it_could_look(world: World, tmp_path: Path) -> None:
    gone = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await gone.wait()
    job = await world.write_job(tmp_path / "job", parent=gone.pid)
    code, lines, _ = await _finish(world, job)
    assert code == 1
    assert [line for line in lines if line["phase"] == "done"] == []


async def test_a_damaged_artefact_ends_in_a_line_that_says_so(world: World, tmp_path: Path) -> None:
    job = await world.write_job(tmp_path / "job")
    weights = world.artefacts.path(1) / "encoder" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.chmod(0o644)
    weights.write_bytes(damaged)  # in place: every hard link of it, so that nothing can heal it
    code, lines, _ = await _finish(world, job)
    assert code == 1
    assert lines[-1]["phase"] == "failed"
    assert "model.safetensors" in lines[-1]["problem"]
    assert not (job / "result.json").exists()


async def test_a_wrong_setting_ends_in_a_line_that_names_it(world: World, tmp_path: Path) -> None:
    job = await world.write_job(tmp_path / "job")
    world.options["freeze"] = "bottom-3"
    code, lines, _ = await _finish(world, job)
    assert code == 1
    assert "PAWL_FREEZE='bottom-3'" in lines[-1]["problem"]

"""A consolidation from SQL to its result, in this process."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from pawl.classifier.encoders.spec import encoder_digest
from pawl.domain.errors import InvalidInput
from pawl.domain.samples import NewSample, Split
from pawl.domain.versions import LedgerChange
from pawl.versions.lineage import trained_samples
from tests.worker.consolidation.world import World, labelled
from worker.consolidation.job import FORMAT, Job, Result
from worker.consolidation.progress import Progress
from worker.consolidation.run import consolidate


async def _consolidate(world: World, job: Path) -> dict[str, Any]:
    await consolidate(job, world.stores, world.settings, Progress(io.StringIO()))
    result: dict[str, Any] = json.loads((job / "result.json").read_text())
    return result


async def _train_ids(world: World) -> set[str]:
    samples = [s for task in ("default", "mood") for s in await world.samples.learned(task)]
    return {s.id for s in samples if s.split is Split.TRAIN}


async def test_freezing_all_but_the_head_changes_nothing(world: World, tmp_path: Path) -> None:
    world.options["freeze"] = "head"
    result = await _consolidate(world, await world.write_job(tmp_path / "job"))
    live = await world.ledger.live()
    assert live is not None
    assert result["encoder_digest"] == live.encoder_digest == encoder_digest(tmp_path / "job" / "encoder")
    assert result["trained"] == []
    assert result["metrics"]["unchanged"] == "freeze=head"
    assert json.loads((tmp_path / "job" / "ids.json").read_text()) == []
    assert load_file(tmp_path / "job" / "embeddings.safetensors")["z"].shape == (0, 32)


async def test_without_new_samples_nothing_is_trained(world: World, tmp_path: Path) -> None:
    await world.promote(LedgerChange(trained=tuple(await _train_ids(world))))
    result = await _consolidate(world, await world.write_job(tmp_path / "job"))
    assert result["trained"] == []
    assert result["metrics"]["unchanged"] == "no new samples"


async def test_an_encoder_that_got_no_better_is_not_replaced(world: World, tmp_path: Path) -> None:
    world.options |= {"learning_rate": "1e-12", "validation_share": "0.2", "patience": "1"}
    result = await _consolidate(world, await world.write_job(tmp_path / "job"))
    live = await world.ledger.live()
    assert live is not None
    assert result["metrics"]["unchanged"] == "validation did not improve"
    assert (result["encoder_digest"], result["trained"]) == (live.encoder_digest, [])


async def test_new_samples_are_mixed_with_a_class_balanced_replay(world: World, tmp_path: Path) -> None:
    old = await _train_ids(world)
    added = await world.learn([*labelled(60, seed=9), NewSample("a class that is new", "third")], trained=tuple(old))
    world.options |= {"epochs": "2", "replay_per_class": "20", "patience": "1000"}
    result = await _consolidate(world, await world.write_job(tmp_path / "job"))
    trained = set(result["trained"])
    assert result["samples_replayed"] == len(trained & old) <= 4 * 20
    assert result["samples_new"] == len(trained - old) > 40
    assert trained - old <= {s.id for s in added}
    kinds = [(s.task, s.label) for s in await world.samples.get_many(sorted(trained & old))]
    assert {kind: kinds.count(kind) for kind in kinds} == {
        ("default", "even"): 20,
        ("default", "odd"): 20,
        ("mood", "bad"): 20,
        ("mood", "good"): 20,
    }


async def test_samples_beyond_the_watermark_and_those_to_be_retracted_are_left_out(
    world: World, tmp_path: Path
) -> None:
    learned = await world.samples.learned("default")
    watermark = learned[150].seq
    unwanted = next(s for s in learned if s.split is Split.TRAIN)
    await world.samples.request_retraction(unwanted.id)
    world.options |= {"epochs": "2", "patience": "1000"}
    result = await _consolidate(world, await world.write_job(tmp_path / "job", watermark=watermark))
    ids = set(json.loads((tmp_path / "job" / "ids.json").read_text()))
    late = {s.id for s in learned if s.seq > watermark}
    assert result["trained"]
    assert result["watermark"] == watermark
    assert not (late | {unwanted.id}) & (ids | set(result["trained"]))


async def test_above_the_limit_a_coreset_and_all_golden_samples_are_embedded(world: World, tmp_path: Path) -> None:
    world.options |= {"epochs": "1", "patience": "1000", "coreset": "100"}
    result = await _consolidate(world, await world.write_job(tmp_path / "job"))
    ids = set(json.loads((tmp_path / "job" / "ids.json").read_text()))
    golden = {s.id for s in await world.samples.golden("default", 100)}
    chosen = await world.samples.get_many(sorted(ids - golden))
    assert golden <= ids
    assert len(ids) == len(load_file(tmp_path / "job" / "embeddings.safetensors")["z"]) == 105
    assert sum(s.split is Split.HELDOUT for s in chosen) == 30
    assert len(result["trained"]) <= 100


async def test_what_the_encoder_saw_follows_its_digest_and_not_the_version_numbers(world: World) -> None:
    ids = sorted(await _train_ids(world))
    first, second = "1" * 64, "2" * 64
    seen = []
    for trained, encoder in ((ids[:3], first), (ids[3:5], second), ((), second), ((), first), ((), None)):
        number = await world.promote(LedgerChange(trained=tuple(trained)), encoder=encoder)
        version = await world.ledger.get(number)
        seen.append(await trained_samples(world.ledger, version.encoder_digest, number))
    # The fourth is a roll-back to the first encoder, the fifth one to the published encoder.
    assert seen == [set(ids[:3]), set(ids[:5]), set(ids[:5]), set(ids[:3]), set()]


async def test_a_second_run_in_the_same_folder_starts_afresh(world: World, tmp_path: Path) -> None:
    job = await world.write_job(tmp_path / "job")
    (job / "encoder").mkdir()
    (job / "encoder" / "left over").write_text("from a run that was killed")
    (job / "result.json").write_text("{}")
    world.options["freeze"] = "head"
    result = await _consolidate(world, job)
    assert encoder_digest(job / "encoder") == result["encoder_digest"]


@pytest.mark.parametrize("content", [b"", b"[]", b'{"version": "x"}', b'{"format": 1, "version": "x"}', b"\xff"])
async def test_an_odd_job_is_refused(world: World, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "job.json").write_bytes(content)
    with pytest.raises(InvalidInput, match="not a consolidation job"):
        await consolidate(tmp_path, world.stores, world.settings, Progress(io.StringIO()))


async def test_a_job_and_a_result_of_another_version_of_pawl_are_refused(world: World, tmp_path: Path) -> None:
    world.options["freeze"] = "head"
    await _consolidate(world, await world.write_job(tmp_path / "job"))
    assert Result.read(tmp_path / "job").metrics["unchanged"] == "freeze=head"
    for file, kind in (("job.json", Job), ("result.json", Result)):
        path = tmp_path / "job" / file
        path.write_text(json.dumps(json.loads(path.read_text()) | {"format": FORMAT + 1}))
        with pytest.raises(
            InvalidInput, match=rf"{file} is not .* of format 1: .*it has format 2; restart the learner"
        ):
            kind.read(tmp_path / "job")
    with pytest.raises(InvalidInput, match="it has format 2"):
        await consolidate(tmp_path / "job", world.stores, world.settings, Progress(io.StringIO()))

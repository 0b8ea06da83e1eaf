"""New versions reach the engine, bad ones do not, and neither SQL nor Redis is needed to go on serving."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.metrics import AppMetrics
from app.serving.ports import Ports
from app.serving.predictions.engine import Engine, ServedClassifier
from app.serving.predictions.reloader import LOAD_FAILED_EVENT, Reloader
from pawl.classifier.classifier import load_classifier
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.head import LinearHead
from pawl.classifier.stacking import Stacking
from pawl.domain.errors import ArtefactCorrupt, StoreUnavailable
from pawl.domain.versions import Event, LedgerChange
from pawl.ports import Encoder, VersionFolder
from tests.app.world import World
from tests.polling import eventually

HEAD = "heads/default.safetensors"


class Loads:
    """The real loader, which notes what it was given and fails when it is told to."""

    def __init__(self) -> None:
        self.encoders: list[Encoder | None] = []
        self.failure: Exception | None = None

    def __call__(self, folder: VersionFolder, encoder: Encoder | None) -> ServedClassifier:
        self.encoders.append(encoder)
        if self.failure is not None:
            raise self.failure
        return load_classifier(folder, encoder=encoder, backends=Backends(threads=1))


class Bench:
    """A reloader without its loops."""

    def __init__(self, home: Path) -> None:
        self.world = World(home)
        self.metrics = AppMetrics()
        self.engine = Engine(self.metrics, 10)
        self.loads = Loads()
        self.ledger = self.world.switches[2]
        world, ledger = self.world, self.ledger
        ports = Ports(world.samples, world.predictions, ledger, world.labels, world.stream, world.artefacts)
        self.reloader = Reloader(self.engine, ports, self.loads, world.settings, self.metrics)

    async def promote(self, number: int) -> None:
        both = Stacking.of(0.3, 0.2, 0.1)
        await self.world.promote(self.world.write_version(number, stacking=both, threshold=0.5))

    async def failures(self) -> list[Event]:
        return [one for one in await self.world.ledger.events(0, 100) if one.type == LOAD_FAILED_EVENT]

    def due_now(self) -> None:
        assert self.reloader._failure is not None
        self.reloader._failure.next_try = 0.0


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    await bench.world.close()


def flip_bit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


async def test_a_version_is_loaded_once_and_the_next_takes_over_its_encoder(bench: Bench) -> None:
    await bench.reloader.look()
    assert bench.engine.live is None
    await bench.promote(1)
    await bench.reloader.look()
    await bench.reloader.look()
    assert bench.engine.number == 1
    first = bench.engine.check_ready().classifier
    await bench.promote(2)
    await bench.reloader.look()
    assert bench.engine.number == 2
    assert bench.loads.encoders == [None, first.encoder]
    assert bench.engine.check_ready().classifier.encoder is first.encoder


@pytest.mark.parametrize(
    "name",
    [HEAD, "features.safetensors", "novelty/default.safetensors", "lexical/default.safetensors", "manifest.json"],
)
async def test_a_failure_leaves_the_old_version_serving(bench: Bench, name: str) -> None:
    await bench.promote(1)
    await bench.reloader.look()
    await bench.promote(2)
    flip_bit(bench.world.artefacts.path(2) / name)
    for _ in range(3):
        await bench.reloader.look()
        bench.due_now()
    assert bench.engine.number == 1
    assert [event.payload["version"] for event in await bench.failures()] == [2]
    assert bench.metrics.registry.get_sample_value("pawl_version_load_failures_total") == 3


async def test_a_damaged_encoder_is_not_loaded(bench: Bench) -> None:
    await bench.promote(1)
    flip_bit(bench.world.artefacts.path(1) / "encoder" / "model.onnx")
    await bench.reloader.look()
    with pytest.raises(Exception, match=r"version 1 could not be loaded .*model\.onnx.*pawl doctor"):
        bench.engine.check_ready()


async def test_a_folder_that_is_not_the_promoted_one_is_not_served(bench: Bench) -> None:
    await bench.promote(1)
    await bench.reloader.look()
    await bench.promote(2)
    bench.world.write_version(2, {"default": ("other", "labels")})
    await bench.reloader.look()
    assert bench.engine.number == 1
    [failed] = await bench.failures()
    assert "not the one that was promoted" in failed.payload["problem"]


@pytest.mark.parametrize("error", [MemoryError(), RuntimeError("cuda"), ArtefactCorrupt(path="x", problem="NaN")])
async def test_a_failed_load_is_tried_again_after_a_pause(bench: Bench, error: Exception) -> None:
    await bench.promote(1)
    bench.loads.failure = error
    await bench.reloader.look()
    await bench.reloader.look()
    assert len(bench.loads.encoders) == 1, "the pause was not kept"
    bench.loads.failure = None
    bench.due_now()
    await bench.reloader.look()
    assert bench.engine.number == 1


async def test_a_newer_version_does_not_wait_for_the_pause_of_a_bad_one(bench: Bench) -> None:
    await bench.promote(1)
    bench.loads.failure = RuntimeError("bad")
    await bench.reloader.look()
    bench.loads.failure = None
    await bench.promote(2)
    await bench.reloader.look()
    assert bench.engine.number == 2


async def test_scores_that_are_no_numbers_are_refused(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = LinearHead.calibrated
    monkeypatch.setattr(LinearHead, "calibrated", lambda self, scores: whole(self, scores) * float("nan"))
    await bench.promote(1)
    await bench.reloader.look()
    assert bench.engine.live is None
    assert len(await bench.failures()) == 1


async def test_sql_away_disturbs_nothing(bench: Bench) -> None:
    bench.ledger.is_up = False
    await bench.reloader.look()
    with pytest.raises(StoreUnavailable, match="switched off"):
        bench.engine.check_ready()
    bench.ledger.is_up = True
    await bench.promote(1)
    await bench.reloader.look()
    bench.ledger.is_up = False
    await bench.reloader.look()
    assert bench.engine.check_ready().number == 1


async def test_a_hint_is_followed_without_waiting_for_the_poll(bench: Bench) -> None:
    bench.reloader._poll_seconds = 3600
    loops = [asyncio.create_task(bench.reloader.run()), asyncio.create_task(bench.reloader.follow_hints())]
    await eventually(lambda: bench.world.stream.listeners)
    await bench.promote(1)
    await eventually(lambda: bench.engine.number == 1)
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def test_without_hints_the_poll_finds_it(bench: Bench) -> None:
    await bench.world.stream.close()
    loops = [asyncio.create_task(bench.reloader.run()), asyncio.create_task(bench.reloader.follow_hints())]
    await bench.world.ledger.promote(bench.world.write_version(1), LedgerChange())
    await eventually(lambda: bench.engine.number == 1)
    assert not loops[1].done()
    for loop in loops:
        loop.cancel()
    await asyncio.gather(*loops, return_exceptions=True)


async def _answers(client: httpx.AsyncClient, world: World, stop: asyncio.Event) -> AsyncIterator[tuple[int, str]]:
    while not stop.is_set():
        response = await client.post("/v1/predict", json={"text": "where is my card"})
        assert response.status_code == 200, response.text
        body = response.json()
        yield body["version"], body["predictions"][0]["label"]


async def test_swaps_under_load_fail_no_request_and_each_answer_is_the_named_versions(tmp_path: Path) -> None:
    world = World(tmp_path)
    async with world.client() as client:
        await world.serve(1)
        stop = asyncio.Event()
        seen: list[tuple[int, str]] = []

        async def ask() -> None:
            last = 0
            async for number, label in _answers(client, world, stop):
                assert number >= last, "went back to an older version"
                last = number
                seen.append((number, label))

        asking = [asyncio.create_task(ask()) for _ in range(4)]
        for number in range(2, 12):
            await world.serve(number)
            await eventually(partial(_has_answered, seen, number))
        stop.set()
        await asyncio.gather(*asking)
        assert {number for number, _ in seen} == set(range(1, 12))
        for number, label in set(seen):
            assert world.offline(number).predict(["where is my card"])[0].label == label
        await eventually(lambda: world.service.metrics.registry.get_sample_value("pawl_leased_versions") == 0)


def _has_answered(seen: list[tuple[int, str]], number: int) -> bool:
    return any(one == number for one, _ in seen)

"""A consolidation stands still while answers wait, never for ever, and goes on without Redis."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from app.metrics import AppMetrics
from app.serving.predictions.batcher import Batcher
from app.serving.predictions.pressure import PressureWatch
from pawl.settings import Settings
from tests.app.serving.predictions.numbered import NumberedClassifier
from tests.polling import eventually
from tests.streams import LocalStream
from worker.consolidation.yielding import PAUSE_FILE, Turns, follow_pressure


class Time:
    """A clock that moves when somebody sleeps; `pressed_until` keeps the pause file fresh."""

    def __init__(self, folder: Path) -> None:
        self.time = 1000.0
        self.pressed_until = 0.0
        self._file = folder / PAUSE_FILE

    def now(self) -> float:
        if self.time < self.pressed_until:
            self._file.touch()
            os.utime(self._file, (self.time, self.time))
        return self.time

    def sleep(self, seconds: float) -> None:
        self.time += seconds


def test_it_waits_until_the_pressure_is_gone(tmp_path: Path) -> None:
    clock = Time(tmp_path)
    turns = Turns(tmp_path, clock.now, clock.sleep)
    turns.take()
    assert clock.time == 1000.0, "nobody waits: nothing is waited for"
    clock.pressed_until = 1001.0
    turns.take()
    assert 1001.0 < clock.time < 1001.8, "and half a second more, for which the file holds"


def test_under_load_without_end_it_gets_a_third_of_the_time(tmp_path: Path) -> None:
    clock = Time(tmp_path)
    clock.pressed_until = 1e9
    turns = Turns(tmp_path, clock.now, clock.sleep)
    stepped = 0.0
    while clock.time < 1300.0:
        turns.take()
        clock.time += 0.01  # a step
        stepped += 0.01
    assert stepped / 300.0 == pytest.approx(1 / 3, abs=0.03)


def test_a_parent_that_died_does_not_stop_its_child_for_ever(tmp_path: Path) -> None:
    clock = Time(tmp_path)
    (tmp_path / PAUSE_FILE).touch()
    os.utime(tmp_path / PAUSE_FILE, (clock.time, clock.time))
    Turns(tmp_path, clock.now, clock.sleep).take()
    assert clock.time - 1000.0 == pytest.approx(0.5, abs=0.11)


async def test_from_a_text_that_waits_to_the_file_that_the_child_looks_at(tmp_path: Path) -> None:
    settings, stream, classifier = (
        Settings(home=tmp_path, yield_after_ms=20),
        LocalStream(),
        NumberedClassifier(1),
    )
    batcher = Batcher(settings, AppMetrics())
    batcher.start()
    tasks = [
        asyncio.create_task(PressureWatch(batcher, stream, settings).run()),
        asyncio.create_task(follow_pressure(tmp_path, stream)),
    ]
    try:
        await batcher.submit(classifier, ["at once"], task="default", top_k=1)
        await asyncio.sleep(0.3)
        assert not (tmp_path / PAUSE_FILE).exists(), "nobody waited"
        classifier.encoder.open.clear()
        waiting = [
            asyncio.create_task(batcher.submit(classifier, [text], task="default", top_k=1)) for text in ("one", "two")
        ]
        await eventually((tmp_path / PAUSE_FILE).exists)
        classifier.encoder.open.set()
        await asyncio.gather(*waiting)
        await eventually(lambda: batcher.longest_wait() == 0.0)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await batcher.close()


async def test_without_redis_nobody_stands_still(tmp_path: Path) -> None:
    stream = LocalStream()
    await stream.tell_pressure(60_000)
    await stream.close()
    following = asyncio.create_task(follow_pressure(tmp_path, stream))
    await asyncio.sleep(0.25)
    assert not following.done()
    assert not (tmp_path / PAUSE_FILE).exists()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)


async def test_it_is_off_where_the_settings_say_so(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, yield_after_ms=0)
    await asyncio.wait_for(PressureWatch(Batcher(settings, AppMetrics()), LocalStream(), settings).run(), timeout=5.0)

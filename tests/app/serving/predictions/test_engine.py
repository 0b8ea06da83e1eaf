from __future__ import annotations

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.metrics import AppMetrics
from app.serving.predictions.engine import Engine
from pawl.domain.errors import Draining, NoLiveVersion, QueueFull, Unavailable, VersionNotReached
from tests.app.serving.predictions.numbered import NumberedClassifier


def make_engine(max_waiters: int = 10) -> Engine:
    return Engine(AppMetrics(), max_waiters)


def released(engine: Engine) -> float:
    return engine._metrics.registry.get_sample_value("pawl_versions_drained_total") or 0.0


def held(engine: Engine) -> float:
    return engine._metrics.registry.get_sample_value("pawl_leased_versions") or 0.0


async def test_without_a_version_a_lease_says_what_to_do() -> None:
    engine = make_engine()
    with pytest.raises(Unavailable, match="starting"):
        engine.ready()
    engine.explain_absence(NoLiveVersion)
    assert engine.ready() is None
    with pytest.raises(NoLiveVersion, match="pawl import"), engine.lease():
        pass


async def test_a_request_finishes_on_the_version_it_started_with() -> None:
    engine = make_engine()
    engine.swap(NumberedClassifier(1))
    with engine.lease() as first:
        engine.swap(NumberedClassifier(2))
        assert first.number == 1
        assert engine.number == 2
        assert (held(engine), released(engine)) == (1, 0)
        with engine.lease() as second:
            assert second.number == 2
    assert (held(engine), released(engine)) == (0, 1)


async def test_a_replaced_version_is_released_when_its_last_lease_ends() -> None:
    engine = make_engine()
    engine.swap(NumberedClassifier(1))
    outer, inner = engine.lease(), engine.lease()
    outer.__enter__()
    inner.__enter__()
    engine.swap(NumberedClassifier(2))
    outer.__exit__(None, None, None)
    assert held(engine) == 1
    inner.__exit__(None, None, None)
    assert (held(engine), released(engine)) == (0, 1)


@given(st.lists(st.integers(min_value=1, max_value=20), max_size=30))
def test_monotonic_reads_the_engine_never_goes_to_a_lower_number(numbers: list[int]) -> None:
    async def scenario() -> None:
        engine = make_engine()
        served = []
        for number in numbers:
            engine.swap(NumberedClassifier(number))
            served.append(engine.number)
        assert served == list(itertools.accumulate(numbers, max))

    asyncio.run(scenario())


async def test_waiting_ends_when_the_version_comes() -> None:
    engine = make_engine()
    engine.swap(NumberedClassifier(1))
    waiting = asyncio.create_task(engine.wait_for(3, 20))
    await asyncio.sleep(0)
    engine.swap(NumberedClassifier(2))
    await asyncio.sleep(0)
    assert not waiting.done()
    engine.swap(NumberedClassifier(4))
    await waiting


async def test_waiting_ends_with_what_is_live() -> None:
    engine = make_engine()
    engine.swap(NumberedClassifier(1))
    with pytest.raises(VersionNotReached, match="Version 2 is not served here yet; the live version is 1"):
        await engine.wait_for(2, 0)


async def test_waiters_are_bounded() -> None:
    engine = make_engine(max_waiters=1)
    engine.swap(NumberedClassifier(1))
    waiting = asyncio.create_task(engine.wait_for(2, 20))
    await asyncio.sleep(0)
    with pytest.raises(QueueFull):
        await engine.wait_for(2, 20)
    engine.swap(NumberedClassifier(2))
    await waiting


async def test_draining_refuses_new_requests_and_wakes_waiters_but_lets_leases_finish() -> None:
    engine = make_engine()
    engine.swap(NumberedClassifier(1))
    waiting = asyncio.create_task(engine.wait_for(2, 20))
    await asyncio.sleep(0)
    with engine.lease() as version:
        engine.drain()
        with pytest.raises(Draining), engine.lease():
            pass
        with pytest.raises(Draining):
            await waiting
        assert version.number == 1

"""Only a fault that follows the sample may end it; one of the environment is waited out and reported."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from sqlalchemy import exc

from pawl.domain.errors import ArtefactCorrupt, StoreUnavailable
from pawl.domain.labels import LabelChangeKind, LabelChangeState, LabelRequest
from pawl.domain.samples import SampleState
from pawl.domain.versions import Event
from tests.intents import labelled
from tests.learners import Learner, new_learner, opened
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer
from tests.worker.examples import difference, weights_of
from worker.assembly import open_learner
from worker.health.environment import DeviceLost
from worker.health.faults import is_device_lost, is_of_environment, sentence
from worker.loop import LearnerLoop
from worker.release.gate import judge
from worker.updates import step_runner

POISON = "poison"
PLACES = [
    OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "artefacts/blobs"),
    OSError(errno.EROFS, os.strerror(errno.EROFS)),
    PermissionError(errno.EACCES, os.strerror(errno.EACCES), "artefacts"),
    OSError(errno.EDQUOT, os.strerror(errno.EDQUOT)),
    OSError(errno.EIO, os.strerror(errno.EIO)),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
    SafetensorError("I/O error: No space left on device (os error 28)"),
    StoreUnavailable(problem="gone"),
    ConnectionResetError("gone"),
    ArtefactCorrupt(path="encoder", problem="it is missing"),
    exc.ProgrammingError("INSERT", {}, Exception("permission denied for table versions")),
]


@dataclass(slots=True)
class Failing:
    """The gate, which raises for all or, with `alone`, only where the poisonous sample is judged."""

    judge: Callable[..., Any]
    error: Exception | None = None
    alone: bool = False
    calls: int = 0
    told: list[str] = field(default_factory=list)

    def __call__(self, evidence: Any, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        poisoned = any(POISON in case.served for case in evidence.values())
        if self.error is not None and (poisoned or not self.alone):
            raise self.error
        return self.judge(evidence, *args, **kwargs)


@asynccontextmanager
async def working(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch, failing: Failing
) -> AsyncIterator[tuple[LearnerLoop, Learner]]:
    """The learner's loop in this process, its gate replaced."""
    pawl = install.trained(redis_url=redis_url, max_attempts=1, sweep_seconds=0.2, reclaim_seconds=0.5, **LENIENT)
    async with opened(pawl) as engine, open_learner(pawl.settings) as loop:
        monkeypatch.setattr(step_runner, "judge", failing)
        running = asyncio.create_task(loop.run())
        yield loop, new_learner(pawl.settings, engine)
        loop.stop()
        await running


@pytest.mark.parametrize("error", PLACES, ids=lambda error: f"{type(error).__name__}-{getattr(error, 'errno', '')}")
def test_what_can_only_be_the_places_is_known_also_as_the_cause_of_another_error(error: Exception) -> None:
    assert is_of_environment(error)
    assert sentence(error)
    wrapped = ValueError("could not be learned")
    wrapped.__cause__ = error
    assert is_of_environment(wrapped)


def test_an_error_of_a_value_is_not_the_places() -> None:
    for error in (ValueError("no such label"), ArithmeticError(), KeyError("x"), RuntimeError("shapes do not match")):
        assert not is_of_environment(error)
    assert is_device_lost(torch.AcceleratorError("CUDA error: an illegal memory access was encountered"))
    assert is_device_lost(RuntimeError("CUDA error: device-side assert triggered"))
    assert not is_device_lost(torch.OutOfMemoryError("CUDA out of memory"))


async def test_only_a_fault_that_follows_the_sample_may_end_it(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(judge, ValueError("this one cannot be judged"), alone=True)
    async with working(install, redis_url, monkeypatch, failing) as (_, learner):
        good = await learner.accept(labelled(3, seed=6))
        [bad] = await learner.accept(labelled(1, seed=7), served_label=POISON)
        await eventually(lambda: _in_state(learner, [bad], SampleState.DEAD), PATIENCE, every=0.05)
        await eventually(lambda: _in_state(learner, good, SampleState.LEARNED), PATIENCE, every=0.05)
        assert await _events(learner, "learner_troubled") == []
        await eventually(lambda: _events(learner, "feedback_dead"), PATIENCE, every=0.05)  # written after the state
        assert len(await _events(learner, "feedback_dead")) == 1


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "artefacts/blobs"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        ArithmeticError("nobody knows why"),
    ],
    ids=["full disk", "no memory", "no GPU memory", "unknown, but without the sample too"],
)
async def test_a_fault_of_the_place_ends_no_sample_is_told_and_everything_is_learned_afterwards(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    failing = Failing(judge, error)
    async with working(install, redis_url, monkeypatch, failing) as (_, learner):
        ids = await learner.accept(labelled(8, seed=6))
        await eventually(lambda: failing.calls > 4, PATIENCE, every=0.05)  # more tries than `max_attempts`
        assert await _in_state(learner, ids, SampleState.QUEUED)
        [event] = await _events(learner, "learner_troubled")
        assert event.payload["problem"] == sentence(error)
        status = await learner.ledger.learner_status()
        assert status is not None
        assert status.details["problem"] == sentence(error)
        failing.error = None
        await eventually(lambda: _in_state(learner, ids, SampleState.LEARNED), PATIENCE, every=0.05)
        await eventually(lambda: _events(learner, "learner_recovered"), PATIENCE, every=0.05)
        await eventually(lambda: _is_well(learner), PATIENCE, every=0.05)
        assert await _events(learner, "feedback_dead") == []


async def test_a_fault_of_the_place_that_meets_one_sample_alone_keeps_it_and_not_the_others(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(judge, MemoryError(), alone=True)
    async with working(install, redis_url, monkeypatch, failing) as (_, learner):
        [bad] = await learner.accept(labelled(1, seed=7), served_label=POISON)
        good = await learner.accept(labelled(3, seed=6))
        await eventually(lambda: _in_state(learner, good, SampleState.LEARNED), PATIENCE, every=0.05)
        tried = failing.calls
        await eventually(lambda: failing.calls > tried + 2, PATIENCE, every=0.05)
        assert await _in_state(learner, [bad], SampleState.QUEUED)
        failing.error = None
        await eventually(lambda: _in_state(learner, [bad], SampleState.LEARNED), PATIENCE, every=0.05)


async def test_a_fault_of_the_place_fails_no_change_of_a_label(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(judge, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
    async with working(install, redis_url, monkeypatch, failing) as (_, learner):
        label = labelled(1)[0][1]
        change = await learner.labels.request(LabelRequest(LabelChangeKind.RENAME, "default", label, "new name"))
        await eventually(lambda: failing.calls > 2, PATIENCE, every=0.05)
        assert (await learner.labels.get(change.id)).state is LabelChangeState.PENDING
        failing.error = None
        await eventually(lambda: _is_applied(learner, change.id), PATIENCE, every=0.05)


async def test_maintenance_that_fails_is_no_samples_fault(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(judge)
    async with working(install, redis_url, monkeypatch, failing) as (loop, learner):
        tuning: Any = loop.parts.retuning

        async def maintain(stop: Callable[[], bool]) -> bool:
            failing.told.append("tried")
            raise ValueError("lambda cannot be chosen")

        monkeypatch.setattr(tuning, "is_overdue", lambda: True)
        monkeypatch.setattr(tuning, "maintain", maintain)
        ids = await learner.accept(labelled(5, seed=6))
        await eventually(lambda: _in_state(learner, ids, SampleState.LEARNED), PATIENCE, every=0.05)
        await eventually(lambda: failing.told, PATIENCE, every=0.05)
        more = await learner.accept(labelled(5, seed=8))
        await eventually(lambda: _in_state(learner, more, SampleState.LEARNED), PATIENCE, every=0.05)
        doing = [event.payload["doing"] for event in await _events(learner, "learner_troubled")]
        assert set(doing) <= {"tuning", "housekeeping"}
        assert doing


async def test_a_lost_gpu_asks_for_a_new_process(
    install: Installer, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pawl = install.trained(redis_url=redis_url, max_attempts=1)
    async with opened(pawl) as engine, open_learner(pawl.settings) as loop:
        lost = torch.AcceleratorError("CUDA error: an illegal memory access was encountered")
        monkeypatch.setattr(step_runner, "judge", Failing(judge, lost))
        learner = new_learner(pawl.settings, engine)
        ids = await learner.accept(labelled(3, seed=6))
        with pytest.raises(DeviceLost):
            await asyncio.wait_for(loop.run(), PATIENCE)
        assert await _in_state(learner, ids, SampleState.QUEUED)


async def test_the_step_without_a_sample_leaves_no_trace(install: Installer, redis_url: str) -> None:
    pawl = install.trained(redis_url=redis_url)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        state = await learner.runner.catch_up()
        assert state is not None
        before = {name: weights_of(one) for name, one in state.tasks.items()}
        seats = {name: len(one.evaluation) for name, one in state.tasks.items()}
        await learner.runner.dry_run()
        assert pawl.artefacts.kept() == [1]
        assert [version.number for version in await learner.ledger.page(None, 10)] == [1]
        for name, one in state.tasks.items():
            assert difference(weights_of(one), before[name]) == 0
            assert len(one.evaluation) == seats[name]


async def _in_state(learner: Learner, ids: list[str], state: SampleState) -> bool:
    return {sample.state for sample in await learner.samples.get_many(ids)} == {state}


async def _events(learner: Learner, type: str) -> list[Event]:
    return [event for event in await learner.ledger.events(0, 1000) if event.type == type]


async def _is_well(learner: Learner) -> bool:
    status = await learner.ledger.learner_status()
    return status is not None and "problem" not in status.details


async def _is_applied(learner: Learner, change_id: str) -> bool:
    return (await learner.labels.get(change_id)).state is LabelChangeState.APPLIED

"""Learners in the test's own process, on real stores, whose calls to the outside can be made to fail or to be late."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from inspect import iscoroutinefunction
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.artefacts.folders import FolderArtefactStore
from pawl.clock import SystemClock
from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.labels import LabelChange, LabelChangeKind, LabelRequest
from pawl.domain.samples import NewSample
from pawl.domain.versions import Version
from pawl.settings import Settings
from pawl.versions.rollback import promote_again
from tests.intents import Labelled, labelled
from tests.processes import TRAINED_SAMPLES, Installation
from tests.streams import LocalStream
from worker.assembly import assemble, open_learner
from worker.loop import LearnerParts
from worker.state.learner_ports import LearnerPorts
from worker.updates.step_runner import StepRunner


class Crash(BaseException):
    """The process dies here; not an `Exception`, because no code gets to handle that."""


Meanwhile = dict[str, Callable[[], Awaitable[None]]]
"""`before METHOD` or `after METHOD`, of an async one -> what happens at that moment, once."""


class Fuse:
    """Burns at step number `at`, or at the named one; one step before every call that passes and one after it."""

    def __init__(self, at: int | None = None, *, where: str | None = None) -> None:
        self._at = at
        self._where = where
        self._steps = 0
        self.burnt = ""

    def step(self, where: str) -> None:
        self._steps += 1
        if self._steps == self._at or where == self._where:
            self.burnt = where
            raise Crash(where)


class Fused:
    """A port whose every async call passes a fuse; a sync one too, in whatever thread it is made."""

    def __init__(self, port: Any, fuse: Fuse, meanwhile: Meanwhile) -> None:
        self._port = port
        self._fuse = fuse
        self._meanwhile = meanwhile

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            await self._pass(f"before {name}")
            result = await method(*args, **kwargs)
            await self._pass(f"after {name}")
            return result

        def call_sync(*args: Any, **kwargs: Any) -> Any:
            self._fuse.step(f"before {name}")
            result = method(*args, **kwargs)
            self._fuse.step(f"after {name}")
            return result

        return call if iscoroutinefunction(method) else call_sync

    async def _pass(self, where: str) -> None:
        if where in self._meanwhile:
            await self._meanwhile.pop(where)()
        self._fuse.step(where)


@dataclass(slots=True)
class Learner:
    """A learner without its loop: what one process holds in memory."""

    parts: LearnerParts
    samples: SqlSampleStore
    ledger: SqlVersionLedger
    labels: SqlLabelStore
    artefacts: FolderArtefactStore
    meanwhile: Meanwhile

    @property
    def runner(self) -> StepRunner:
        return self.parts.runner

    async def accept(self, pairs: list[Labelled], **options: Any) -> list[str]:
        """Queues samples; their ids."""
        receipts = await self.samples.accept(
            [NewSample(text, label, create_task=True, **options) for text, label in pairs]
        )
        return [receipt.id for receipt in receipts]

    async def change_label(
        self, kind: str, label: str, target: str | None = None, task: str = "default"
    ) -> LabelChange:
        """Asks for a change of a label and carries it out, as the loop does; what became of it."""
        change = await self.labels.request(LabelRequest(LabelChangeKind(kind), task, label, target))
        await self.runner.catch_up()
        await self.parts.label_changer.carry_out()
        return await self.labels.get(change.id)

    async def learn_queued(self) -> None:
        """What the loop does with everything that waits: catch up, then learn."""
        await self.runner.catch_up()
        waiting = await self.samples.queued(10_000)
        if waiting:
            await self.parts.head_update.learn([sample.id for sample in waiting])

    async def promote_again(self, number: int, reason: str = "test") -> Version:
        """Rolls back to a version, as the API does."""
        ports = LearnerPorts(self.samples, self.ledger, self.labels, self.artefacts, LocalStream(), SystemClock())
        return (await promote_again(number, reason=reason, promoted_by="test", ports=ports)).version


def new_learner(
    settings: Settings, engine: AsyncEngine, fuse: Fuse | None = None, meanwhile: Meanwhile | None = None
) -> Learner:
    """A learner as after a start of its process."""
    fuse, meanwhile = fuse or Fuse(), meanwhile if meanwhile is not None else {}
    samples: Any = Fused(SqlSampleStore(engine, heldout_fraction=settings.heldout_fraction), fuse, meanwhile)
    ledger: Any = Fused(SqlVersionLedger(engine), fuse, meanwhile)
    labels: Any = Fused(SqlLabelStore(engine), fuse, meanwhile)
    artefacts: Any = Fused(FolderArtefactStore(settings.artefacts_path), fuse, meanwhile)
    stream: Any = Fused(LocalStream(), fuse, meanwhile)
    parts = assemble(settings, LearnerPorts(samples, ledger, labels, artefacts, stream, SystemClock()))
    return Learner(parts, samples, ledger, labels, artefacts, meanwhile)


@asynccontextmanager
async def opened(pawl: Installation) -> AsyncIterator[AsyncEngine]:
    """The installation's database with version 1 in it: where there is none, `labelled(TRAINED_SAMPLES)` is learned."""
    engine = connect(pawl.settings.sql_url)
    try:
        await upgrade(engine)
        if await SqlVersionLedger(engine).live() is None:
            pairs = labelled(TRAINED_SAMPLES)
            await SqlSampleStore(engine).accept([NewSample(text, label) for text, label in pairs])
            async with open_learner(pawl.settings) as loop:
                await loop.drain(_ignore)
        yield engine
    finally:
        await engine.dispose()


async def _ignore(left: int) -> None:
    """Progress nobody looks at."""

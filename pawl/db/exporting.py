"""Samples read for an export: all of one moment, a page at a time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import ColumnElement, and_, func, not_, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.db.faults import translated
from pawl.db.sample_rows import select_samples
from pawl.db.tables import samples as table
from pawl.domain.samples import Sample, SampleFilter, SampleState

_PAGE = 2000


class ExportTable:
    """The part of `SampleStore` that exports read."""

    _engine: AsyncEngine

    async def count(self, where: SampleFilter) -> int:
        """See `SampleStore.count`."""
        async with _snapshot(self._engine) as connection:
            return await connection.scalar(select(func.count()).select_from(table).where(*_conditions(where))) or 0

    async def stream(self, where: SampleFilter) -> AsyncIterator[list[Sample]]:
        """See `SampleStore.stream`."""
        after = 0
        async with _snapshot(self._engine) as connection:
            while page := await select_samples(connection, *_conditions(where), table.c.seq > after, limit=_PAGE):
                yield page
                after = page[-1].seq


def _conditions(where: SampleFilter) -> list[ColumnElement[bool]]:
    leaving = and_(table.c.state == SampleState.LEARNED.value, table.c.retract_requested)
    conditions = [table.c.state.in_([state.value for state in where.states]), not_(leaving)]
    if where.tasks is not None:
        conditions.append(table.c.task.in_(where.tasks))
    if where.since is not None:
        conditions.append(table.c.updated_at >= where.since)
    return conditions


@asynccontextmanager
async def _snapshot(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that reads the state at its beginning: a promotion during an export does not show in it."""
    sqlite = engine.dialect.name == "sqlite"
    # Without `within_budget`: an export runs as long as its reader takes, and no HTTP request waits for it.
    with translated(engine.url):
        async with engine.connect() as connection:
            if sqlite:
                # Deferred, so it takes no writer's lock; in WAL its first SELECT fixes what all later ones see.
                await connection.exec_driver_sql("BEGIN")
            else:
                await connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

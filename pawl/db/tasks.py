"""Tasks in SQL: listed, and dropped with all their samples or with those of one source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.db.engine import reading
from pawl.db.sample_rows import lock_where, move_samples
from pawl.db.tables import ACTIVE_STATES_SQL, CHANGE_PENDING, LIVE, label_changes, labels, samples, versions
from pawl.domain.label_changes import leaving_move
from pawl.domain.labels import LabelChange, LabelChangeKind, TaskSummary
from pawl.domain.samples import DEFAULT_TASK, SampleState

_LEAVING = (*ACTIVE_STATES_SQL, SampleState.DEAD.value)
"""States from which a dropped sample leaves: a dead one could be brought back."""
_PENDING = (CHANGE_PENDING, label_changes.c.kind == LabelChangeKind.DROP.value)


class TaskTable:
    """The part of `LabelStore` that knows whole tasks."""

    _engine: AsyncEngine

    async def tasks(self, source: str | None = None) -> list[TaskSummary]:
        """See `LabelStore.tasks`."""
        active: list[ColumnElement[bool]] = [samples.c.state.in_(ACTIVE_STATES_SQL)]
        if source is not None:
            active.append(samples.c.source == source)
        counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        async with reading(self._engine) as connection:
            query = select(samples.c.task, samples.c.state, func.count()).where(*active)
            for task, state, count in await connection.execute(query.group_by(samples.c.task, samples.c.state)):
                counts[task][state] = count
            distinct = select(samples.c.task, func.count(samples.c.label.distinct())).where(*active)
            numbers: dict[str, int] = dict((await connection.execute(distinct.group_by(samples.c.task))).all())
            heads = await live_heads(connection)
            names = await known_tasks(connection) if source is None else sorted(counts)
            drops = select(label_changes.c.task, label_changes.c.id).where(*_PENDING).order_by(label_changes.c.seq)
            pending: dict[str, str] = dict((await connection.execute(drops)).all())
        return [
            TaskSummary(
                name=name,
                labels=numbers.get(name, 0),
                samples={state: counts[name].get(state, 0) for state in ACTIVE_STATES_SQL},
                served=name in heads,
                pending=pending.get(name),
            )
            for name in names
        ]


async def pending_drop(connection: AsyncConnection, task: str) -> str | None:
    """Id of a request to drop the whole task that waits for the learner."""
    change_id: str | None = await connection.scalar(
        select(label_changes.c.id).where(
            *_PENDING,
            label_changes.c.task == task,
            label_changes.c.target.is_(None),
        )
    )
    return change_id


async def has_source(connection: AsyncConnection, task: str, source: str) -> bool:
    """Whether a source has active samples in a task."""
    return bool(await connection.scalar(select(exists().where(*_of(task, source)))))


async def drop_samples(connection: AsyncConnection, change: LabelChange, now: datetime) -> None:
    """Takes out the samples of a dropped task or source; with the last of a task's samples its label records go, too.

    Raises `CandidateStale` when one of them is learned.
    """
    locked = await lock_where(connection, *_of(change.task, change.target, _LEAVING))
    await move_samples(connection, {id: leaving_move(change, sample) for id, sample in locked.items()}, now)
    # Another source's samples keep the task: what was decided about its labels still holds for them.
    if not await connection.scalar(select(exists().where(*_of(change.task, None)))):
        await connection.execute(delete(labels).where(labels.c.task == change.task))


def _of(task: str, source: str | None, states: Sequence[str] = ACTIVE_STATES_SQL) -> list[ColumnElement[bool]]:
    conditions = [samples.c.task == task, samples.c.state.in_(states)]
    return conditions if source is None else [*conditions, samples.c.source == source]


async def known_tasks(connection: AsyncConnection) -> list[str]:
    """Returns the tasks that exist: those with active samples, label records or a live head, and `default`."""
    decided = await connection.scalars(select(labels.c.task).distinct())
    used = await tasks_with(connection, ACTIVE_STATES_SQL)
    return sorted({DEFAULT_TASK, *await live_heads(connection), *decided, *used})


async def tasks_with(connection: AsyncConnection, states: Sequence[str]) -> list[str]:
    """Tasks with samples in these states, sorted. One short query for each task: none reads a million rows."""
    tasks: list[str] = []
    query = select(samples.c.task).where(samples.c.state.in_(states)).order_by(samples.c.task).limit(1)
    task = await connection.scalar(query)
    while task is not None:
        tasks.append(task)
        task = await connection.scalar(query.where(samples.c.task > task))
    return tasks


async def live_heads(connection: AsyncConnection) -> dict[str, Any]:
    """The heads of the live version, by task; none where there is no version."""
    heads: dict[str, Any] | None = await connection.scalar(select(versions.c.heads).where(LIVE))
    return heads or {}

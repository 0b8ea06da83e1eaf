"""Tasks in SQL: listed, and dropped with all their samples or with those of one source."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import ColumnElement, delete, exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.db.engine import among, chunked, reading
from pawl.db.label_rules import ACTIVE_STATES_SQL, leaving_states, stale_learned
from pawl.db.tables import CHANGE_PENDING, label_changes, labels, samples
from pawl.db.task_names import known_tasks, live_heads
from pawl.domain.labels import LabelChange, LabelChangeKind, TaskSummary
from pawl.domain.samples import SampleState

_LEAVING = (*ACTIVE_STATES_SQL, SampleState.DEAD.value)
"""States from which a dropped sample leaves: a dead one could be brought back."""
_PENDING = (CHANGE_PENDING, label_changes.c.kind == LabelChangeKind.DROP.value)


class TaskTable:
    """The part of `LabelStore` that knows whole tasks."""

    _engine: AsyncEngine

    async def tasks(self, source: str | None = None) -> list[TaskSummary]:
        """See `LabelStore.tasks`."""
        own: list[ColumnElement[bool]] = [samples.c.state.in_(ACTIVE_STATES_SQL)]
        if source is not None:
            own.append(samples.c.source == source)
        counts: defaultdict[str, dict[str, int]] = defaultdict(dict)
        async with reading(self._engine) as connection:
            query = select(samples.c.task, samples.c.state, func.count()).where(*own)
            for task, state, count in await connection.execute(query.group_by(samples.c.task, samples.c.state)):
                counts[task][state] = count
            distinct = select(samples.c.task, func.count(samples.c.label.distinct())).where(*own)
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
    found: str | None = await connection.scalar(
        select(label_changes.c.id).where(
            *_PENDING,
            label_changes.c.task == task,
            label_changes.c.target.is_(None),
        )
    )
    return found


async def has_source(connection: AsyncConnection, task: str, source: str) -> bool:
    """Whether a source has active samples in a task."""
    return bool(await connection.scalar(select(exists().where(*_of(task, source)))))


async def drop_samples(connection: AsyncConnection, change: LabelChange, now: datetime) -> None:
    """What is in no head leaves; where nothing is left of the task, what was decided about its labels goes, too.

    Raises `CandidateStale` where something is in the head still.
    """
    mine = _of(change.task, change.target, _LEAVING)
    query = select(samples.c.id, samples.c.state).where(*mine).order_by(samples.c.id).with_for_update()
    rows = (await connection.execute(query)).all()
    if any(row.state == SampleState.LEARNED.value for row in rows):
        raise stale_learned(change)
    for state, (after, reason) in leaving_states(change).items():
        for chunk in chunked([row.id for row in rows if row.state == state.value]):
            gone = update(samples).where(among(connection, samples.c.id, chunk))
            await connection.execute(gone.values(state=after.value, reason=reason, updated_at=now))
    if not await connection.scalar(select(exists().where(*_of(change.task, None)))):
        await connection.execute(delete(labels).where(labels.c.task == change.task))


def _of(task: str, source: str | None, states: Sequence[str] = tuple(ACTIVE_STATES_SQL)) -> list[ColumnElement[bool]]:
    own = [samples.c.task == task, samples.c.state.in_(states)]
    return own if source is None else [*own, samples.c.source == source]

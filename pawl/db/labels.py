"""Decisions about labels in SQL, and what each does to the samples."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock, SystemClock
from pawl.db.engine import LockSpace, insert_or, reading, serialise, writing
from pawl.db.events import add_events
from pawl.db.sample_rows import lock_where, move_samples
from pawl.db.tables import ACTIVE_STATES_SQL, CHANGE_PENDING, label_changes, labels, samples
from pawl.db.tasks import TaskTable, drop_samples, has_source, known_tasks
from pawl.domain.errors import LabelChangeNotFound
from pawl.domain.label_changes import (
    accepted_change,
    check_pending,
    in_form,
    leaving_move,
    present_records,
    request_events,
    settlement_event,
    stale_learned,
    summarise,
)
from pawl.domain.labels import (
    LabelChange,
    LabelChangeKind,
    LabelChangeState,
    LabelFacts,
    LabelRecord,
    LabelRequest,
    LabelState,
    LabelSummary,
)
from pawl.domain.samples import SampleState

_CHANGE = [label_changes.c[field.name] for field in fields(LabelChange)]
_RECORD = [labels.c[field.name] for field in fields(LabelRecord)]


class SqlLabelStore(TaskTable):
    """`LabelStore` on SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine, clock: Clock | None = None) -> None:
        self._engine = engine
        self._clock = clock or SystemClock()

    async def request(self, request: LabelRequest) -> LabelChange:
        """See `LabelStore.request`."""
        now, request = self._clock.now(), in_form(request)
        source = request.target if request.kind is LabelChangeKind.DROP else None
        async with writing(self._engine) as connection:
            # Alone: of two requests at once each would be checked against facts without the other.
            await lock_labels(connection, [request.task])
            pending = await _changes(connection, label_changes.c.state == LabelChangeState.PENDING.value)
            counts = await _counts(connection, request.task)
            facts = LabelFacts(
                records=await _records(connection, labels.c.task == request.task),
                in_use={label for label, _ in counts},
                learned={label for label, state in counts if state == SampleState.LEARNED.value},
                pending=[change for change in pending if change.task == request.task],
                tasks=await known_tasks(connection),
                has_source=source is not None and await has_source(connection, request.task, source),
            )
            change = accepted_change(request, facts, len(pending), now)
            await connection.execute(insert(label_changes).values(_row(change)))
            if change.kind is LabelChangeKind.ADD:
                await apply_label_change(connection, change, None, now)
                change = (await _changes(connection, label_changes.c.id == change.id))[0]
            await add_events(connection, self._clock, request_events(change))
        return change

    async def get(self, change_id: str) -> LabelChange:
        """See `LabelStore.get`."""
        async with reading(self._engine) as connection:
            return await _get(connection, change_id)

    async def pending(self) -> list[LabelChange]:
        """See `LabelStore.pending`."""
        async with reading(self._engine) as connection:
            return await _changes(connection, CHANGE_PENDING)

    async def applied(self, after_version: int, up_to_version: int | None = None) -> list[LabelChange]:
        """See `LabelStore.applied`."""
        within = [label_changes.c.version > after_version]
        if up_to_version is not None:
            within.append(label_changes.c.version <= up_to_version)
        async with reading(self._engine) as connection:
            changes = await _changes(connection, *within)
        return sorted(changes, key=lambda change: change.version or 0)

    async def apply(self, change_id: str) -> LabelChange:
        """See `LabelStore.apply`."""
        async with writing(self._engine) as connection:
            change = await _get(connection, change_id)
            await lock_labels(connection, [change.task])
            learned = (samples.c.task == change.task, samples.c.state == SampleState.LEARNED.value)
            with_label = samples.c.label == change.label
            if change.kind is not LabelChangeKind.DROP and await connection.scalar(
                select(exists().where(*learned, with_label))
            ):
                raise stale_learned(change)
            await apply_label_change(connection, change, None, self._clock.now())
            change = await _get(connection, change_id)
            await add_events(connection, self._clock, [settlement_event(change)])
        return change

    async def fail(self, change_id: str, problem: str) -> LabelChange:
        """See `LabelStore.fail`."""
        async with writing(self._engine) as connection:
            # The row is locked: a promotion that carries the change out at this moment has won, or waits and finds it
            # failed.
            check_pending(await _get(connection, change_id, lock=True))
            await _settle(connection, change_id, LabelChangeState.FAILED, self._clock.now(), problem=problem)
            change = await _get(connection, change_id)
            await add_events(connection, self._clock, [settlement_event(change)])
        return change

    async def records(self, task: str) -> dict[str, LabelRecord]:
        """See `LabelStore.records`."""
        async with reading(self._engine) as connection:
            return await _records(connection, labels.c.task == task)

    async def summaries(self, task: str) -> list[LabelSummary]:
        """See `LabelStore.summaries`."""
        async with reading(self._engine) as connection:
            records = await _records(connection, labels.c.task == task)
            counts = await _counts(connection, task)
            pending = await _changes(connection, CHANGE_PENDING, label_changes.c.task == task)
            since = await _learned_since(connection, task)
        return summarise(records, counts, since, pending)


async def lock_labels(connection: AsyncConnection, tasks: Collection[str], *, shared: bool = False) -> None:
    """Locks the labels of tasks until the transaction ends: nobody else changes them and, without `shared`, nobody
    accepts samples for the tasks. Take it before any row lock, as every transaction does: no two can deadlock.
    """
    await serialise(connection, LockSpace.LABELS, tasks, shared=shared)


async def records_of(connection: AsyncConnection, task: str) -> dict[str, LabelRecord]:
    """All decisions of a task, by name."""
    return await _records(connection, labels.c.task == task)


async def apply_label_change(
    connection: AsyncConnection, change: LabelChange, version: int | None, now: datetime
) -> None:
    """Carries out a pending change: samples, decisions, and the change itself. The labels are locked already.

    Raises `CandidateStale` when it is not pending any more, or when a retired label still has learned samples.
    """
    check_pending(await _get(connection, change.id, lock=True))
    if change.kind is LabelChangeKind.DROP:
        await drop_samples(connection, change, now)
    elif change.kind is LabelChangeKind.RETIRE:
        locked = await lock_where(connection, *_active(change.task, [change.label]))
        await move_samples(connection, {id: leaving_move(change, sample) for id, sample in locked.items()}, now)
    elif change.target is not None:
        await _relabel_samples(connection, change.task, change.label, change.target)
    records = await _records(connection, labels.c.task == change.task)
    for record in present_records(records, change, version, now):
        values = asdict(record) | {"state": record.state.value}
        row = insert_or(connection, labels).values(values)
        await connection.execute(row.on_conflict_do_update(index_elements=["task", "name"], set_=values))
    await _settle(connection, change.id, LabelChangeState.APPLIED, now, version=version)


async def _relabel_samples(connection: AsyncConnection, task: str, old: str, new: str) -> None:
    """Renames a label. Where both labels have an active sample of one text, the older is marked superseded; the learner
    takes it out when it learns the newer one, as with any correction.
    """
    # Locked in the order of ids; an UPDATE alone locks in the order in which it finds them, and could deadlock.
    await lock_where(connection, *_active(task, [old, new]))
    newer = samples.alias("newer")
    both = [old, new]
    has_newer = exists().where(
        newer.c.task == samples.c.task,
        newer.c.text_digest == samples.c.text_digest,
        newer.c.label.in_(both),
        newer.c.state.in_(ACTIVE_STATES_SQL),
        newer.c.superseded.is_(False),
        newer.c.seq > samples.c.seq,
    )
    # Before the rename: with it two active samples would have one text and label, which `uq_samples_active` refuses.
    older = update(samples).where(*_active(task, both), samples.c.superseded.is_(False), has_newer)
    await connection.execute(older.values(superseded=True))
    await connection.execute(update(samples).where(*_active(task, [old])).values(label=new))


def _active(task: str, names: Sequence[str]) -> tuple[ColumnElement[bool], ...]:
    return samples.c.task == task, samples.c.label.in_(names), samples.c.state.in_(ACTIVE_STATES_SQL)


async def _settle(
    connection: AsyncConnection, change_id: str, state: LabelChangeState, now: datetime, **values: Any
) -> None:
    settled = update(label_changes).where(label_changes.c.id == change_id)
    await connection.execute(settled.values(state=state.value, settled_at=now, **values))


async def _counts(connection: AsyncConnection, task: str) -> dict[tuple[str, str], int]:
    """Counts the active samples of a task by (label, state)."""
    active = (samples.c.task == task, samples.c.state.in_(ACTIVE_STATES_SQL))
    query = select(samples.c.label, samples.c.state, func.count()).where(*active)
    rows = await connection.execute(query.group_by(samples.c.label, samples.c.state))
    return {(label, state): count for label, state, count in rows}


async def _learned_since(connection: AsyncConnection, task: str) -> dict[str, int]:
    """Returns, for each label, the version that learned its oldest sample that is still learned."""
    learned = (samples.c.task == task, samples.c.state == SampleState.LEARNED.value)
    oldest = select(func.min(samples.c.seq)).where(*learned).group_by(samples.c.label)
    query = select(samples.c.label, samples.c.learned_in_version).where(samples.c.seq.in_(oldest))
    return dict((await connection.execute(query)).all())


async def _get(connection: AsyncConnection, change_id: str, *, lock: bool = False) -> LabelChange:
    changes = await _changes(connection, label_changes.c.id == change_id, lock=lock)
    if not changes:
        raise LabelChangeNotFound(change_id=change_id)
    return changes[0]


async def _changes(connection: AsyncConnection, *conditions: Any, lock: bool = False) -> list[LabelChange]:
    query = select(*_CHANGE).where(*conditions).order_by(label_changes.c.seq)
    rows = await connection.execute(query.with_for_update() if lock else query)
    return [
        LabelChange(
            **dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name for it
            | {"kind": LabelChangeKind(row.kind), "state": LabelChangeState(row.state)}
        )
        for row in rows
    ]


async def _records(connection: AsyncConnection, *conditions: Any) -> dict[str, LabelRecord]:
    rows = await connection.execute(select(*_RECORD).where(*conditions))
    return {row.name: _record(row) for row in rows}


def _record(row: Row[*tuple[Any, ...]]) -> LabelRecord:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name for it
    return LabelRecord(**values | {"state": LabelState(row.state)})


def _row(change: LabelChange) -> dict[str, Any]:
    return asdict(change) | {"kind": change.kind.value, "state": change.state.value}

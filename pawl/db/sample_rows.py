"""Rows of the table `samples` as all stores read, lock and move them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Row, TextClause, UnaryExpression, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.engine import among, chunked
from pawl.db.tables import ACTIVE_STATES_SQL
from pawl.db.tables import samples as table
from pawl.domain.quarantine import Doubt, QuarantineKind
from pawl.domain.samples import LockedSample, Move, Origin, Sample, SampleState, Split

_SELECT = select(*(table.c[field.name] for field in fields(Sample)))


async def lock_samples(connection: AsyncConnection, ids: Sequence[str]) -> dict[str, LockedSample]:
    """The samples that exist, by id, locked until the transaction ends. Callers with many ids pass sorted chunks."""
    return await lock_where(connection, among(connection, table.c.id, ids))


async def lock_where(connection: AsyncConnection, *conditions: ColumnElement[bool]) -> dict[str, LockedSample]:
    """The samples that meet the conditions, by id, locked until the transaction ends.

    Rows are locked in the order of ids everywhere: two transactions that lock several cannot deadlock.
    """
    columns = (table.c.id, table.c.state, table.c.retract_requested, table.c.replaced_by)
    # SQLite has no FOR UPDATE, and SQLAlchemy leaves it out: there a writing transaction is alone from its BEGIN on.
    query = select(*columns).where(*conditions).order_by(table.c.id).with_for_update()
    rows = await connection.execute(query)
    return {id: LockedSample(SampleState(state), *rest) for id, state, *rest in rows}


async def move_samples(connection: AsyncConnection, moves: Mapping[str, Move], now: datetime) -> None:
    """Gives samples their new states. This transaction must have locked them.

    A move without a `kind` leaves in place what put the sample into quarantine last.
    """
    statement = update(table).where(table.c.id == bindparam("sample_id"))
    statement = statement.values(
        state=bindparam("to_state"),
        reason=bindparam("why"),
        replaced_by=bindparam("newer"),
        # With a type: PostgreSQL cannot infer that of a parameter that is NULL in every row.
        quarantined_by=func.coalesce(bindparam("kind", type_=table.c.quarantined_by.type), table.c.quarantined_by),
        updated_at=now,
    )
    for chunk in chunked(moves.items()):
        rows = [
            {
                "sample_id": id,
                "to_state": move.state.value,
                "why": move.reason,
                "kind": move.kind,
                "newer": move.replaced_by,
            }
            for id, move in chunk
        ]
        await connection.execute(statement, rows)


async def keep_doubts(connection: AsyncConnection, doubts: Mapping[str, Doubt]) -> None:
    """Writes what spoke against samples that this transaction has locked."""
    statement = update(table).where(table.c.id == bindparam("sample_id")).values(doubt=bindparam("against"))
    for chunk in chunked(doubts.items()):
        await connection.execute(statement, [{"sample_id": id, "against": asdict(doubt)} for id, doubt in chunk])


async def yield_identities(connection: AsyncConnection, ids: Sequence[str]) -> None:
    """Marks samples that are about to become active as superseded where an active one has their text and label.

    `uq_samples_active` allows one. Had they been active when the other arrived, they would have been marked then.
    """
    other = table.alias()
    # Golden and quarantined ones hold the place as well: ACTIVE_STATES_SQL is what the index covers.
    taken = select(other.c.id).where(
        other.c.task == table.c.task,
        other.c.text_digest == table.c.text_digest,
        other.c.label == table.c.label,
        other.c.id != table.c.id,
        other.c.superseded.is_(False),
        other.c.state.in_(ACTIVE_STATES_SQL),
    )
    for chunk in chunked(ids):
        yielding = update(table).where(among(connection, table.c.id, chunk), taken.exists())
        await connection.execute(yielding.values(superseded=True))


async def select_samples(
    connection: AsyncConnection,
    *conditions: Any,
    limit: int | None = None,
    order: UnaryExpression[Any] | ColumnElement[Any] = table.c.seq,
) -> list[Sample]:
    """Samples that meet the conditions, by `seq` or another order."""
    rows = await connection.execute(_SELECT.where(*conditions).order_by(order).limit(limit))
    return [_sample(row) for row in rows]


async def select_newest(
    connection: AsyncConnection,
    state: TextClause,
    wanted: Mapping[str, str | None],
    before: int | None,
    limit: int,
) -> list[Sample]:
    """A page of samples, newest first, with `seq` below `before`. `wanted` are values of columns; None is any."""
    conditions = [table.c[name] == value for name, value in wanted.items() if value is not None]
    if before is not None:
        conditions.append(table.c.seq < before)
    return await select_samples(connection, state, *conditions, limit=limit, order=table.c.seq.desc())


def _sample(row: Row[*tuple[Any, ...]]) -> Sample:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name for it
    values.update(origin=Origin(row.origin), split=Split(row.split), state=SampleState(row.state))
    values["quarantined_by"] = QuarantineKind(row.quarantined_by) if row.quarantined_by else None
    values["doubt"] = Doubt(**row.doubt) if row.doubt else None
    return Sample(**values)

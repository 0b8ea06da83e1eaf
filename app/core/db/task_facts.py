"""What SQL knows of a task at the moment in which samples for it arrive."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from app.core.db.label_rules import ACTIVE_STATES_SQL
from app.core.db.labels import records_of
from app.core.db.tables import LIVE, labels, samples, versions
from app.core.domain.admission import TaskFacts
from app.core.domain.samples import DEFAULT_TASK


async def facts_of(connection: AsyncConnection, task: str) -> TaskFacts:
    """All that admission asks about a task."""
    used = await connection.scalars(union(*(labels_in(task, state) for state in ACTIVE_STATES_SQL)))
    heads = await _heads(connection)
    return TaskFacts(
        labels=frozenset(used.all()),
        records=await records_of(connection, task),
        head=tuple(heads[task]["labels"]) if task in heads else None,
    )


async def is_live(connection: AsyncConnection) -> bool:
    """Whether there is a version."""
    return await connection.scalar(select(versions.c.number).where(LIVE)) is not None


async def known_tasks(connection: AsyncConnection) -> list[str]:
    """Tasks for which samples may come."""
    found = {DEFAULT_TASK, *await _heads(connection)}
    found |= set(await connection.scalars(select(labels.c.task).distinct()))
    active = samples.c.state.in_(ACTIVE_STATES_SQL)
    query = select(samples.c.task).where(active).order_by(samples.c.task).limit(1)
    task = await connection.scalar(query)
    while task is not None:  # one short query for each, so that it does not read a million rows
        found.add(task)
        task = await connection.scalar(query.where(samples.c.task > task))
    return sorted(found)


async def _heads(connection: AsyncConnection) -> dict[str, Any]:
    heads: dict[str, Any] | None = await connection.scalar(select(versions.c.heads).where(LIVE))
    return heads or {}


def labels_in(task: str, state: str) -> Select[Any]:
    """The distinct labels of one state, stepping from one to the next in the index instead of reading all samples."""
    own = (samples.c.task == task, samples.c.state == state)
    walk = select(func.min(samples.c.label).label("label")).where(*own).cte(f"labels_{state}", recursive=True)
    following = select(func.min(samples.c.label)).where(*own, samples.c.label > walk.c.label).correlate(walk)
    walk = walk.union_all(select(following.scalar_subquery()).where(walk.c.label.is_not(None)))
    return select(walk.c.label).where(walk.c.label.is_not(None))

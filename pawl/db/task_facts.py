"""Reads what admission asks about a task."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Select, func, select, union
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.labels import records_of
from pawl.db.tables import ACTIVE_STATES_SQL, LIVE, samples, versions
from pawl.db.tasks import live_heads, pending_drop
from pawl.domain.admission import TaskFacts


async def facts_of(connection: AsyncConnection, task: str) -> TaskFacts:
    """Reads the facts of one task."""
    # A query for each state: with IN the walk through the index could not skip from label to label.
    used = await connection.scalars(union(*(labels_in(task, state) for state in ACTIVE_STATES_SQL)))
    heads = await live_heads(connection)
    return TaskFacts(
        labels=frozenset(used.all()),
        records=await records_of(connection, task),
        head=tuple(heads[task]["labels"]) if task in heads else None,
        leaving=await pending_drop(connection, task),
    )


async def is_live(connection: AsyncConnection) -> bool:
    """Whether there is a version."""
    return await connection.scalar(select(versions.c.number).where(LIVE)) is not None


def labels_in(task: str, state: str) -> Select[Any]:
    """Selects the distinct labels of one state. It steps through the index: all samples of a task may be millions."""
    in_state = (samples.c.task == task, samples.c.state == state)
    walk = select(func.min(samples.c.label).label("label")).where(*in_state).cte(f"labels_{state}", recursive=True)
    # The next larger label, found by one step into ix_samples_task_state_label_seq; SELECT DISTINCT would read every
    # row of the task, in the transaction of every acceptance.
    following = select(func.min(samples.c.label)).where(*in_state, samples.c.label > walk.c.label).correlate(walk)
    walk = walk.union_all(select(following.scalar_subquery()).where(walk.c.label.is_not(None)))
    return select(walk.c.label).where(walk.c.label.is_not(None))

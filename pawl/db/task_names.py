"""Which tasks there are."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.tables import LIVE, labels, samples, versions
from pawl.domain.samples import ACTIVE_STATES, DEFAULT_TASK

_ACTIVE = samples.c.state.in_([state.value for state in ACTIVE_STATES])


async def known_tasks(connection: AsyncConnection) -> list[str]:
    """Tasks for which samples may come."""
    found = {DEFAULT_TASK, *await live_heads(connection)}
    found |= set(await connection.scalars(select(labels.c.task).distinct()))
    query = select(samples.c.task).where(_ACTIVE).order_by(samples.c.task).limit(1)
    task = await connection.scalar(query)
    while task is not None:  # one short query for each, so that it does not read a million rows
        found.add(task)
        task = await connection.scalar(query.where(samples.c.task > task))
    return sorted(found)


async def live_heads(connection: AsyncConnection) -> dict[str, Any]:
    """The heads of the live version, by task; none where there is no version."""
    heads: dict[str, Any] | None = await connection.scalar(select(versions.c.heads).where(LIVE))
    return heads or {}

"""Events in SQL, in the order in which they became visible."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.db.tables import events
from pawl.domain.versions import Event
from pawl.json_values import Json


async def add_events(connection: AsyncConnection, clock: Clock, new: Sequence[tuple[str, Json]]) -> list[int]:
    """Writes events (type, payload) as the last part of a transaction; returns their ids.

    The lock is held until the commit. Without it a smaller id could become visible after a larger one, and a reader
    that asks for events after the larger id would never see it.
    """
    await serialise(connection, LockSpace.EVENTS, ["events"])
    ids: list[int] = []
    for type, payload in new:
        row = insert(events).values(type=type, payload=payload, created_at=clock.now()).returning(events.c.id)
        ids.append((await connection.execute(row)).scalar_one())
    return ids


class EventTable:
    """The part of `VersionLedger` that keeps events."""

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def append_event(self, type: str, payload: Json) -> Event:
        """See `VersionLedger.append_event`."""
        async with writing(self._engine) as connection:
            [id] = await add_events(connection, self._clock, [(type, payload)])
            return Event(*(await connection.execute(select(events).where(events.c.id == id))).one())

    async def events(self, after_id: int, limit: int) -> list[Event]:
        """See `VersionLedger.events`."""
        query = select(events).where(events.c.id > after_id).order_by(events.c.id).limit(limit)
        async with reading(self._engine) as connection:
            return [Event(*row) for row in await connection.execute(query)]

    async def last_event_id(self) -> int:
        """See `VersionLedger.last_event_id`."""
        async with reading(self._engine) as connection:
            return await connection.scalar(select(func.max(events.c.id))) or 0

    async def expire_events(self, keep: int) -> int:
        """See `VersionLedger.expire_events`."""
        kept = select(events.c.id).order_by(events.c.id.desc()).limit(keep).subquery()
        # By the smallest id that is kept, and not by arithmetic: a transaction that is rolled back leaves a gap in the
        # ids.
        oldest_kept = select(func.min(kept.c.id)).scalar_subquery()
        old = delete(events).where(events.c.id < oldest_kept) if keep > 0 else delete(events)
        async with writing(self._engine) as connection:
            return (await connection.execute(old)).rowcount

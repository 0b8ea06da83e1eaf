"""The learner's lease and heartbeat in SQL."""

from __future__ import annotations

from datetime import timedelta

from sqlalchemy import or_, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import insert_or, reading, writing
from pawl.db.tables import leases
from pawl.domain.learner import LearnerStatus
from pawl.json_values import Json

_LEARNER = "learner"


class LeaseTable:
    """The part of `VersionLedger` that decides who learns.

    Expiry compares the clocks of the machines that learn. A clock that is wrong costs time, never a sample: a
    promotion names its parent, so the slower of two learners is refused.
    """

    def __init__(self, engine: AsyncEngine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    async def acquire_lease(self, holder: str, seconds: float, state: str, details: Json) -> bool:
        """See `VersionLedger.acquire_lease`."""
        now = self._clock.now()
        row = {
            "holder": holder,
            "state": state,
            "details": details,
            "heartbeat_at": now,
            "expires_at": now + timedelta(seconds=seconds),
        }
        async with writing(self._engine) as connection:
            # One statement: between a look and an update another learner could find the lease expired, too. Where the
            # condition does not hold nothing is changed, and nothing returned.
            statement = insert_or(connection, leases).values(name=_LEARNER, **row)
            statement = statement.on_conflict_do_update(
                index_elements=["name"], set_=row, where=or_(leases.c.expires_at <= now, leases.c.holder == holder)
            )
            taken = await connection.scalar(statement.returning(leases.c.holder))
        return taken is not None

    async def release_lease(self, holder: str) -> None:
        """See `VersionLedger.release_lease`."""
        mine = update(leases).where(leases.c.name == _LEARNER, leases.c.holder == holder)
        async with writing(self._engine) as connection:
            # Not deleted: the row is also the last heartbeat, which `learner_status` goes on telling.
            await connection.execute(mine.values(expires_at=self._clock.now()))

    async def learner_status(self) -> LearnerStatus | None:
        """See `VersionLedger.learner_status`."""
        columns = (leases.c.holder, leases.c.state, leases.c.heartbeat_at, leases.c.expires_at, leases.c.details)
        async with reading(self._engine) as connection:
            row = (await connection.execute(select(*columns).where(leases.c.name == _LEARNER))).one_or_none()
        return None if row is None else LearnerStatus(*row)

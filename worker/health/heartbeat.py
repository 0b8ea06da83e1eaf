"""The learner's lease, renewed by a heartbeat that says what it does and what is wrong.

A learner that cannot reach SQL, or finds a schema there that is not this Pawl's, does not lead: it stands by, says so
once, and asks again with every beat. Nothing of this ends the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import structlog

from pawl.domain.errors import SchemaMismatch
from pawl.json_values import Json
from pawl.ports import VersionLedger

_SCHEMA_SECONDS = 2.0
"""How often it is asked whether the schema is still this Pawl's: another one may be rolled out beside it."""
log = structlog.get_logger(__name__)


class Heartbeat:
    """Holds the lease while it can. Without it nothing is promoted: another learner may be at work.

    `check_schema` raises `SchemaMismatch`; `details` is asked for at each beat.
    """

    def __init__(
        self,
        ledger: VersionLedger,
        name: str,
        seconds: float,
        check_schema: Callable[[], Awaitable[None]],
        details: Callable[[], Json],
    ) -> None:
        self._ledger = ledger
        self._seconds = seconds
        self._check_schema = check_schema
        self._details = details
        self._checked = float("-inf")
        self._obstacle: str | None = None
        self._name = name
        self._activity = "starting"
        self._leading = False

    @property
    def leading(self) -> bool:
        """Whether this learner has the lease."""
        return self._leading

    def begin(self, activity: str) -> None:
        """What the next beats say is done."""
        self._activity = activity

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Beats while the block runs, and gives the lease back after it."""
        beat = asyncio.create_task(self._beat_on())
        try:
            yield
        finally:
            # Ended before the release: a beat that came after it would take the lease again, for nobody.
            beat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beat
            await self._release()

    async def beat(self) -> None:
        """Beats out of turn: what `details` says now is known at once."""
        self._leading = await self._try_to_lead()

    async def _beat_on(self) -> None:
        was_leading = False
        while True:
            await self.beat()
            if self._leading != was_leading:
                log.info("leading" if self._leading else "standing_by", name=self._name)
                was_leading = self._leading
            # Two beats may fail, and the third is still in time for the lease.
            await asyncio.sleep(self._seconds / 4)

    async def _try_to_lead(self) -> bool:
        obstacle = None
        try:
            if time.monotonic() - self._checked > _SCHEMA_SECONDS:
                await self._check_schema()
                self._checked = time.monotonic()
            return await self._ledger.acquire_lease(self._name, self._seconds, self._activity, self._details())
        except SchemaMismatch as error:
            obstacle = str(error)
            await self._release()  # a learner that fits the schema must not wait for this one's lease to run out
        except Exception as error:  # noqa: BLE001 - a heartbeat that ended would leave a learner that never leads again
            obstacle = str(error) or repr(error)
        finally:
            if obstacle is not None and obstacle != self._obstacle:
                log.warning("standing_by", problem=obstacle)
            self._obstacle = obstacle
        return False

    async def _release(self) -> None:
        with contextlib.suppress(Exception):  # it runs out by itself
            await self._ledger.release_lease(self._name)

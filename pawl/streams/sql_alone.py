"""The transport of an installation without Redis: SQL is polled more often instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from pawl.domain.errors import StoreUnavailable
from pawl.ports import StreamEntry, VersionLedger
from pawl.settings import Settings
from pawl.streams.redis_stream import RedisFeedbackStream

_LOOK_SECONDS = 0.1  # a correction is served in p50 0.55 s with it, 0.19 s with Redis (ADR 0025)


class SqlAlone:
    """`FeedbackStream` that carries nothing: samples come by the learner's sweep, versions are looked for in SQL.

    Of what Redis does, one thing has no substitute: a consolidation does not stand still while answers wait.
    """

    carries = False

    def __init__(self, ledger: VersionLedger) -> None:
        self._ledger = ledger

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """See `FeedbackStream.announce`: the sweep finds them."""

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:  # noqa: ARG002 - the port's
        """See `FeedbackStream.read`: nothing, after the pause between two sweeps."""
        await asyncio.sleep(min(block_ms / 1000, _LOOK_SECONDS))
        return []

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:  # noqa: ARG002 - as above
        """See `FeedbackStream.reclaim`."""
        return []

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """See `FeedbackStream.ack`."""

    async def length(self) -> int:
        """See `FeedbackStream.length`."""
        return 0

    async def hint_version(self, number: int) -> None:
        """See `FeedbackStream.hint_version`: the listeners look for themselves."""

    async def version_hints(self) -> AsyncIterator[int]:
        """See `FeedbackStream.version_hints`. A promotion writes an event, whose number is cheap to ask for."""
        seen = -1  # no event has it, so the first look tells the live version
        while True:
            try:
                # Asked before `live`: a promotion between the two has a larger id, and is looked at in the next round.
                newest = await self._ledger.last_event_id()
                live = await self._ledger.live() if newest != seen else None
            except StoreUnavailable as error:
                raise ConnectionError(f"SQL: {error}") from error
            seen = newest
            if live is not None:
                yield live.number
            await asyncio.sleep(_LOOK_SECONDS)

    async def tell_pressure(self, ms: int) -> None:
        """See `FeedbackStream.tell_pressure`."""

    async def under_pressure(self) -> bool:
        """See `FeedbackStream.under_pressure`."""
        return False

    async def ping(self) -> None:
        """See `FeedbackStream.ping`."""

    async def close(self) -> None:
        """See `FeedbackStream.close`."""


def open_stream(settings: Settings, ledger: VersionLedger) -> RedisFeedbackStream | SqlAlone:
    """Opens the stream that the settings name: on Redis, or without it."""
    if settings.sql_alone:
        return SqlAlone(ledger)
    return RedisFeedbackStream(
        settings.stream_url, max_entries=settings.stream_entries, timeout=settings.server_seconds
    )

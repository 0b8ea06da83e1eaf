"""A transport for tests of one process that need no Redis server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

from pawl.ports import StreamEntry, StreamUnavailable


class LocalStream:
    """`FeedbackStream` whose entries, hints and pressure stay in this object; what it delivers is gone from it."""

    carries = True

    def __init__(self) -> None:
        self.listeners: set[asyncio.Queue[int | None]] = set()
        self._entries: list[StreamEntry] = []
        self._pressed = False
        self._closed = False

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """See `FeedbackStream.announce`."""
        await self.ping()
        self._entries.append(StreamEntry(f"{len(self._entries) + 1}-0", tuple(sample_ids), 1))

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """See `FeedbackStream.read`; it does not wait."""
        await self.ping()
        delivered, self._entries = self._entries[:count], self._entries[count:]
        return delivered

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:
        """See `FeedbackStream.reclaim`: nobody else takes anything."""
        return []

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """See `FeedbackStream.ack`: what was read is gone already."""

    async def length(self) -> int:
        """See `FeedbackStream.length`."""
        await self.ping()
        return len(self._entries)

    async def hint_version(self, number: int) -> None:
        """See `FeedbackStream.hint_version`."""
        await self.ping()
        for listener in self.listeners:
            listener.put_nowait(number)

    async def version_hints(self) -> AsyncIterator[int]:
        """See `FeedbackStream.version_hints`."""
        await self.ping()
        hints: asyncio.Queue[int | None] = asyncio.Queue()
        self.listeners.add(hints)
        try:
            while (number := await hints.get()) is not None:
                yield number
        finally:
            self.listeners.discard(hints)
        await self.ping()

    async def tell_pressure(self, ms: int) -> None:
        """See `FeedbackStream.tell_pressure`."""
        await self.ping()
        self._pressed = True
        asyncio.get_running_loop().call_later(ms / 1000, setattr, self, "_pressed", False)

    async def under_pressure(self) -> bool:
        """See `FeedbackStream.under_pressure`."""
        await self.ping()
        return self._pressed

    async def ping(self) -> None:
        """See `FeedbackStream.ping`."""
        if self._closed:
            raise StreamUnavailable("the stream is closed")

    async def close(self) -> None:
        """See `FeedbackStream.close`. Afterwards every call raises `StreamUnavailable`, as when a server is gone."""
        self._closed = True
        for listener in self.listeners:
            listener.put_nowait(None)

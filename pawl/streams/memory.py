"""The in-memory twin of the Redis transport: one process, same semantics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from pawl.ports import StreamEntry, StreamUnavailable

IDS_PER_ENTRY = 500


@dataclass(slots=True)
class _Pending:
    consumer: str
    delivered_at: float
    deliveries: int


class MemoryFeedbackStream:
    """`FeedbackStream` in memory; `max_entries` bounds it, the oldest entries go first."""

    carries = True

    def __init__(self, *, max_entries: int = 100_000) -> None:
        self._max_entries = max_entries
        self._entries: dict[str, tuple[str, ...]] = {}
        self._undelivered: list[str] = []
        self._pending: dict[str, _Pending] = {}
        self._numbered = 0
        self._changed = asyncio.Condition()
        self._subscribers: set[asyncio.Queue[int | None]] = set()
        self._pressed_until = 0.0
        self._closed = False

    async def announce(self, sample_ids: Sequence[str]) -> None:
        """See `FeedbackStream.announce`."""
        self._check_open()
        async with self._changed:
            for at in range(0, len(sample_ids), IDS_PER_ENTRY):
                self._numbered += 1
                entry_id = f"{self._numbered}-0"
                self._entries[entry_id] = tuple(sample_ids[at : at + IDS_PER_ENTRY])
                self._undelivered.append(entry_id)
            while len(self._entries) > self._max_entries:
                del self._entries[next(iter(self._entries))]
            self._changed.notify_all()

    async def read(self, consumer: str, count: int, block_ms: int) -> list[StreamEntry]:
        """See `FeedbackStream.read`."""
        self._check_open()
        async with self._changed:
            try:
                async with asyncio.timeout(block_ms / 1000):
                    await self._changed.wait_for(lambda: self._undelivered or self._closed)
            except TimeoutError:
                return []
            self._check_open()
            taken, self._undelivered = self._undelivered[:count], self._undelivered[count:]
            found = [entry_id for entry_id in taken if entry_id in self._entries]
            for entry_id in found:
                self._pending[entry_id] = _Pending(consumer, time.monotonic(), 1)
            return [StreamEntry(entry_id, self._entries[entry_id], 1) for entry_id in found]

    async def reclaim(self, consumer: str, min_idle_ms: int, count: int) -> list[StreamEntry]:
        """See `FeedbackStream.reclaim`."""
        self._check_open()
        now = time.monotonic()
        idle = [id for id, one in self._pending.items() if (now - one.delivered_at) * 1000 >= min_idle_ms][:count]
        found: list[StreamEntry] = []
        for entry_id in idle:
            if entry_id not in self._entries:
                del self._pending[entry_id]
                continue
            deliveries = self._pending[entry_id].deliveries + 1
            self._pending[entry_id] = _Pending(consumer, now, deliveries)
            found.append(StreamEntry(entry_id, self._entries[entry_id], deliveries))
        return found

    async def ack(self, entry_ids: Sequence[str]) -> None:
        """See `FeedbackStream.ack`."""
        self._check_open()
        for entry_id in entry_ids:
            self._pending.pop(entry_id, None)
            self._entries.pop(entry_id, None)

    async def length(self) -> int:
        """See `FeedbackStream.length`."""
        self._check_open()
        return len(self._entries)

    async def hint_version(self, number: int) -> None:
        """See `FeedbackStream.hint_version`."""
        self._check_open()
        for subscriber in self._subscribers:
            subscriber.put_nowait(number)

    async def version_hints(self) -> AsyncIterator[int]:
        """See `FeedbackStream.version_hints`. Subscribes when the first hint is asked for."""
        self._check_open()
        hints: asyncio.Queue[int | None] = asyncio.Queue()
        self._subscribers.add(hints)
        try:
            while (number := await hints.get()) is not None:
                yield number
        finally:
            self._subscribers.discard(hints)
        self._check_open()

    async def tell_pressure(self, ms: int) -> None:
        """See `FeedbackStream.tell_pressure`."""
        self._check_open()
        self._pressed_until = time.monotonic() + ms / 1000

    async def under_pressure(self) -> bool:
        """See `FeedbackStream.under_pressure`."""
        self._check_open()
        return time.monotonic() < self._pressed_until

    async def ping(self) -> None:
        """See `FeedbackStream.ping`."""
        self._check_open()

    async def close(self) -> None:
        """See `FeedbackStream.close`. Afterwards every call raises `StreamUnavailable`, as when a server is gone."""
        self._closed = True
        for subscriber in self._subscribers:
            subscriber.put_nowait(None)
        async with self._changed:
            self._changed.notify_all()

    def _check_open(self) -> None:
        if self._closed:
            raise StreamUnavailable("the stream is closed")

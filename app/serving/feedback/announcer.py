"""Telling the learner about feedback that is durable."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence

import structlog

from app.metrics import AppMetrics
from pawl.ports import FeedbackStream, StreamUnavailable
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_MOST_IN_ONE_CALL = 500


class Announcer:
    """Puts accepted ids on the stream, outside the request: a 202 does not wait for Redis.

    Ids that the stream does not take are dropped here: they are in SQL, and the learner's sweep finds them.
    """

    def __init__(self, stream: FeedbackStream, settings: Settings, metrics: AppMetrics) -> None:
        self._stream = stream
        self._limit = settings.announcements
        self._metrics = metrics
        self._pending: deque[str] = deque()
        self._filled = asyncio.Event()
        self.failure: StreamUnavailable | None = None
        """Why the stream did not take the last ids."""
        metrics.announcements.set_function(lambda: len(self._pending))
        metrics.announcements_limit.set(self._limit)

    def announce(self, sample_ids: Sequence[str]) -> None:
        """Queues ids for the stream."""
        room = max(0, self._limit - len(self._pending))
        self._pending.extend(sample_ids[:room])
        if len(sample_ids) > room:
            self._metrics.announce_failures.inc(len(sample_ids) - room)
        self._filled.set()

    async def run(self) -> None:
        """Sends what is queued, as it comes."""
        while True:
            await self._filled.wait()
            await self.flush()

    async def flush(self) -> None:
        """Sends what is queued now; never raises for a stream that is gone."""
        # Before the queue is read: ids that come while the stream is asked set it again, and `run` flushes once more.
        self._filled.clear()
        while self._pending:
            ids = [self._pending.popleft() for _ in range(min(len(self._pending), _MOST_IN_ONE_CALL))]
            try:
                await self._stream.announce(ids)
            except StreamUnavailable as error:
                self._metrics.announce_failures.inc(len(ids))
                if self.failure is None or error.problem != self.failure.problem:
                    log.warning("stream_unavailable", problem=str(error))
                self.failure = error
            else:
                self.failure = None

"""Feedback after it is durable: telling the learner, and knowing how much waits."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from app.metrics import AppMetrics
from pawl.domain.errors import QueueFull, StoreUnavailable
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.samples import Backlog
from pawl.domain.versions import LearnerStatus
from pawl.ports import FeedbackStream, SampleStore, StreamUnavailable, VersionLedger
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_MOST_IN_ONE_CALL = 500
_REFRESH_SECONDS = 1.0
_RETRY_AFTER_SECONDS = 10
_WATCH_SECONDS = 5.0


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


class StreamWatch:
    """Shows how long the stream is, and what is wrong with it; asked every few seconds."""

    def __init__(self, stream: FeedbackStream, announcer: Announcer, settings: Settings, metrics: AppMetrics) -> None:
        self._stream = stream
        self._announcer = announcer
        self._entries = metrics.stream_entries
        self._failure: StreamUnavailable | None = None
        metrics.stream_limit.set(settings.stream_entries)

    @property
    def problem(self) -> str | None:
        """Why it cannot be asked, or does not take what is announced."""
        announced = self._announcer.failure
        if self._failure is not None:
            return self._failure.problem
        # That it could not be reached is over once it answers; a refusal to write is not.
        return announced.problem if announced is not None and announced.refused else None

    async def refresh(self) -> None:
        """Asks the stream. Raises `StreamUnavailable`."""
        self._entries.set(await self._stream.length())

    async def run(self) -> None:
        """Refreshes for ever; keeps the last length while the stream is down."""
        while True:
            try:
                await self.refresh()
                self._failure = None
            except StreamUnavailable as error:
                if self._failure is None or error.problem != self._failure.problem:
                    log.warning("stream_unavailable", problem=str(error))
                self._failure = error
            await asyncio.sleep(_WATCH_SECONDS)


class QuarantineWatch:
    """Shows how many labels are in quarantine, by what put them there; counted in SQL every few seconds."""

    def __init__(self, samples: SampleStore, metrics: AppMetrics) -> None:
        self._samples = samples
        self._gauges = {kind: metrics.quarantined.labels(kind.value) for kind in QuarantineKind}

    async def refresh(self) -> None:
        """Asks SQL. Raises `StoreUnavailable`."""
        counts = await self._samples.quarantine_counts()
        for kind, gauge in self._gauges.items():
            gauge.set(counts.get(kind, 0))

    async def run(self) -> None:
        """Refreshes for ever; keeps the last counts while SQL is down."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                log.debug("quarantine_unavailable")
            await asyncio.sleep(_WATCH_SECONDS)


@dataclass(frozen=True, slots=True)
class Learning:
    """How learning goes: what waits, and the learner's last word; read from SQL at `as_of`."""

    backlog: Backlog
    learner: LearnerStatus | None
    as_of: datetime


class BacklogWatch:
    """Knows how much feedback is queued, and how the learner is, without asking for each request; refreshed about once
    a second.
    """

    def __init__(self, samples: SampleStore, ledger: VersionLedger, settings: Settings, metrics: AppMetrics) -> None:
        self._samples = samples
        self._ledger = ledger
        self._limit = settings.max_queued
        self._length = 0
        self._is_away = False
        self.known: Learning | None = None
        """As of the last answer of SQL."""
        metrics.feedback_backlog.set_function(lambda: self._length)
        metrics.feedback_limit.set(self._limit)

    def admit(self, count: int) -> None:
        """Raises `QueueFull` when `count` more items would go beyond `max_queued`."""
        if self._length + count > self._limit:
            raise QueueFull(queue="feedback", limit=self._limit, retry_after=_RETRY_AFTER_SECONDS)

    def add(self, count: int) -> None:
        """Counts items accepted since the last refresh."""
        self._length += count

    async def newest(self) -> Learning | None:
        """As of now; as of the last answer where SQL gives none, and at once where it has just given none."""
        if not self._is_away:
            with suppress(StoreUnavailable):
                return await self.refresh()
        return self.known

    async def refresh(self) -> Learning:
        """Asks SQL. Raises `StoreUnavailable`."""
        try:
            backlog, learner = await self._samples.backlog(), await self._ledger.learner_status()
        except StoreUnavailable:
            self._is_away = True
            raise
        self._is_away = False
        self._length = backlog.length
        self.known = Learning(backlog, learner, datetime.now(UTC))
        return self.known

    async def run(self) -> None:
        """Refreshes for ever; keeps the last answer while SQL is down."""
        while True:
            try:
                await self.refresh()
            except StoreUnavailable:
                log.debug("backlog_unavailable")
            await asyncio.sleep(_REFRESH_SECONDS)

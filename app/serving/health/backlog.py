"""How learning goes: how much feedback waits, and how the learner is."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from app.metrics import AppMetrics
from pawl.domain.errors import QueueFull, StoreUnavailable
from pawl.domain.learner import LearnerStatus
from pawl.domain.samples import Backlog
from pawl.ports import SampleStore, VersionLedger
from pawl.settings import Settings

_RETRY_AFTER_SECONDS = 10


@dataclass(frozen=True, slots=True)
class LearningStatus:
    """What waits to be learned, and the learner's last heartbeat; read from SQL at `as_of`."""

    backlog: Backlog
    learner: LearnerStatus | None
    as_of: datetime


class BacklogWatch:
    """Knows how learning goes without asking for each request; refreshed about once a second.

    Three metrics show it: how much waits, whether a learner is alive, and whether it is in trouble.
    """

    def __init__(self, samples: SampleStore, ledger: VersionLedger, settings: Settings, metrics: AppMetrics) -> None:
        self._samples = samples
        self._ledger = ledger
        self._limit = settings.max_queued
        self._length = 0
        self._is_away = False
        self.known: LearningStatus | None = None
        """As of the last answer of SQL."""
        metrics.feedback_backlog.set_function(lambda: self._length)
        metrics.feedback_limit.set(self._limit)
        metrics.learner_alive.set_function(self._is_learner_alive)
        metrics.learner_troubled.set_function(self._is_learner_troubled)

    @property
    def _learner(self) -> LearnerStatus | None:
        return self.known.learner if self.known is not None else None

    def _is_learner_alive(self) -> bool:
        return self._learner is not None and self._learner.expires_at > datetime.now(UTC)

    def _is_learner_troubled(self) -> bool:
        return self._learner is not None and "problem" in self._learner.details

    def admit(self, count: int) -> None:
        """Raises `QueueFull` when `count` more items would go beyond `max_queued`."""
        if self._length + count > self._limit:
            raise QueueFull(queue="feedback", limit=self._limit, retry_after=_RETRY_AFTER_SECONDS)

    def add(self, count: int) -> None:
        """Counts items accepted since the last refresh."""
        # What other processes accept is seen only at the next refresh: together they may pass the limit by a second's
        # worth.
        self._length += count

    async def newest(self) -> LearningStatus | None:
        """As of now; as of the last answer where SQL gives none, and at once where it has just given none."""
        # A server that stands still would cost every request all of its `server_seconds`; `refresh` in the background
        # finds out when it answers again.
        if not self._is_away:
            with suppress(StoreUnavailable):
                return await self.refresh()
        return self.known

    async def refresh(self) -> LearningStatus:
        """Asks SQL. Raises `StoreUnavailable`; the last answer stays then."""
        try:
            backlog, learner = await self._samples.backlog(), await self._ledger.learner_status()
        except StoreUnavailable:
            self._is_away = True
            raise
        self._is_away = False
        self._length = backlog.length
        self.known = LearningStatus(backlog, learner, datetime.now(UTC))
        return self.known

"""Removes old predictions and events from SQL."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import structlog

from app.metrics import AppMetrics
from pawl.deadlines import each_answer_within
from pawl.domain.errors import StoreUnavailable
from pawl.ports import PredictionLog, VersionLedger
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 60.0
_ANSWER_SECONDS = 30.0  # for one answer: a million rows are counted


class Retention:
    """Removes old predictions and events from SQL."""

    def __init__(
        self, predictions: PredictionLog, ledger: VersionLedger, settings: Settings, metrics: AppMetrics
    ) -> None:
        self._predictions = predictions
        self._ledger = ledger
        self._age = timedelta(hours=settings.prediction_retention_hours)
        self._prediction_rows = settings.prediction_retention_rows
        self._event_rows = settings.event_retention_rows
        self._expired = metrics.expired_rows

    async def run(self) -> None:
        """Applies the limits once a minute."""
        while True:
            try:
                # Background work has no budget; the app's own limit for an answer (2 s) is too short for these.
                with each_answer_within(_ANSWER_SECONDS):
                    await self.apply(datetime.now(UTC))
            except StoreUnavailable as error:
                log.warning("retention_failed", problem=str(error))
            await asyncio.sleep(_EVERY_SECONDS)

    async def apply(self, now: datetime) -> None:
        """Applies the limits. Raises `StoreUnavailable`."""
        predictions = await self._predictions.expire(now - self._age, self._prediction_rows)
        events = await self._ledger.expire_events(self._event_rows)
        self._expired.labels("predictions").inc(predictions)
        self._expired.labels("events").inc(events)
        if predictions or events:
            log.info("retention", predictions=predictions, events=events)

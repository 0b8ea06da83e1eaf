"""Tells the learner when answers wait, so that a consolidation on the same device makes room for them."""

from __future__ import annotations

import asyncio

import structlog

from app.serving.predictions.batcher import Batcher
from pawl.ports import FeedbackStream, StreamUnavailable
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_EVERY_SECONDS = 0.05
# Five looks: one that comes late does not end the pressure. It expires by itself, so an app that died while it was busy
# does not keep a consolidation from going on.
_HOLDS_MS = 250


class PressureWatch:
    """Reports pressure for a quarter second when the oldest text has waited longer than `yield_after_ms`."""

    def __init__(self, batcher: Batcher, stream: FeedbackStream, settings: Settings) -> None:
        self._batcher = batcher
        self._stream = stream
        self._limit = settings.yield_after_ms / 1000

    async def run(self) -> None:
        """Looks twenty times a second; returns at once where learning is not to yield."""
        while self._limit:
            await asyncio.sleep(_EVERY_SECONDS)
            if self._batcher.longest_wait() > self._limit:
                try:
                    await self._stream.tell_pressure(_HOLDS_MS)
                except StreamUnavailable as error:  # learning goes on as it would without; answers do not need Redis
                    log.debug("pressure_not_told", problem=str(error))

"""How the stream is: its length, and what is wrong with it."""

from __future__ import annotations

import structlog

from app.metrics import AppMetrics
from app.serving.feedback.announcer import Announcer
from pawl.ports import FeedbackStream, StreamUnavailable
from pawl.settings import Settings

log = structlog.get_logger(__name__)


class StreamWatch:
    """Asks the stream for its length, which a metric shows, and knows why it cannot be used."""

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
        """Asks the stream. While it does not answer, the last length stays."""
        try:
            self._entries.set(await self._stream.length())
            self._failure = None
        except StreamUnavailable as error:
            if self._failure is None or error.problem != self._failure.problem:
                log.warning("stream_unavailable", problem=str(error))
            self._failure = error

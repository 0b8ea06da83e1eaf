"""All that the routes use, made once, with its background work from the start to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import structlog

from app.metrics import AppMetrics
from app.serving.background import Background
from app.serving.event_feed import EventFeed
from app.serving.feedback.announcer import Announcer
from app.serving.health.backlog import BacklogWatch
from app.serving.health.contradictions import ContradictionWatch
from app.serving.health.group_metrics import GroupMetrics, Member
from app.serving.health.held_back import HeldBackWatch
from app.serving.health.parts import PartsCollector
from app.serving.health.stream import StreamWatch
from app.serving.ports import Ports
from app.serving.predictions.answer_cache import AnswerCache
from app.serving.predictions.batcher import Batcher
from app.serving.predictions.cascade import Cascade
from app.serving.predictions.engine import Engine
from app.serving.predictions.pressure import PressureWatch
from app.serving.predictions.recorder import PredictionRecorder
from app.serving.predictions.reloader import Load, Reloader
from app.serving.retention import Retention
from pawl.domain.errors import StoreUnavailable
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_FLUSH_SECONDS = 1.5  # after `drain_seconds`; a supervisor waits no more than a few seconds longer


class Service:
    """One app's parts. Make it inside a running event loop."""

    def __init__(
        self, settings: Settings, ports: Ports, load: Load, metrics: AppMetrics, member: Member | None = None
    ) -> None:
        self.settings = settings
        self.ports = ports
        self.metrics = metrics
        self.engine = Engine(metrics, max_waiters=settings.predict_queue)
        self.batcher = Batcher(settings, metrics)
        self.cascade = Cascade(self.batcher, settings, metrics)
        self.answers = AnswerCache(settings.answer_cache, metrics)
        self.recorder = PredictionRecorder(ports.predictions, settings, metrics)
        self.announcer = Announcer(ports.stream, settings, metrics)
        self.stream = StreamWatch(ports.stream, self.announcer, settings, metrics)
        self.backlog = BacklogWatch(ports.samples, ports.ledger, settings, metrics)
        self.held_back = HeldBackWatch(ports.samples, metrics)
        self.contradictions = ContradictionWatch(settings, ports, metrics)
        metrics.registry.register(PartsCollector(settings.home_path))
        self.feed = EventFeed(ports.ledger, settings, metrics)
        self.reloader = Reloader(self.engine, ports, load, settings, metrics)
        self._pressure = PressureWatch(self.batcher, ports.stream, settings)
        self._group = GroupMetrics(metrics, member) if member is not None else None
        self._retention = Retention(ports.predictions, ports.ledger, settings, metrics)

    def exposition(self) -> bytes:
        """All metrics in the Prometheus text format, of every process there is behind this socket."""
        return (self._group or self.metrics).exposition()

    def drain(self) -> None:
        """Stops taking requests: not ready at once, event streams end, requests in flight finish."""
        self.engine.drain()
        self.feed.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Runs the background work for the block. At its end it drains, and writes what is buffered."""
        background = Background(self.metrics)
        self.batcher.start()
        background.start("reloader", self.reloader.run)
        background.start("version_hints", self.reloader.follow_hints)
        background.start("prediction_log", self.recorder.run)
        background.start("announcer", self.announcer.run)
        background.repeat("backlog", self.backlog.refresh, 1.0)
        background.repeat("contradictions", self.contradictions.refresh, 10.0)
        background.repeat("held_back", self.held_back.refresh, 5.0)
        background.repeat("stream", self.stream.refresh, 5.0)
        background.start("events", self.feed.run)
        background.start("pressure", self._pressure.run)
        background.start("retention", self._retention.run)
        if self._group is not None:
            background.repeat("group_metrics", partial(asyncio.to_thread, self._group.write), 1.0)
        try:
            yield
        finally:
            # In this order: nothing new comes in; the loops end, so that one writer at a time empties the buffers; the
            # last batches are answered; what they left in the buffers is written.
            self.drain()
            await background.stop()
            await self.batcher.close()
            self.cascade.close()
            await self._flush()

    async def _flush(self) -> None:
        try:
            # Ids that the stream does not get are found by the sweep; answers that are not written are lost for
            # feedback.
            async with asyncio.timeout(_FLUSH_SECONDS):
                await self.announcer.flush()
                await self.recorder.flush()
        except (TimeoutError, StoreUnavailable) as error:
            log.warning("flush_incomplete", problem=str(error) or "out of time")

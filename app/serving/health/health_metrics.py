"""How the learner, the dead letters and the supervised parts are, as metrics; read when they are scraped."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from app.metrics import AppMetrics
from app.serving.feedback.intake import BacklogWatch
from pawl.domain.errors import StoreUnavailable
from pawl.ports import SampleStore
from pawl.processes.parts import PartState, read_parts

_WATCH_SECONDS = 5.0
log = structlog.get_logger(__name__)


class LearnerHealth:
    """Whether a learner lives and what is wrong with it, from its last heartbeat; how many labels are dead."""

    def __init__(self, samples: SampleStore, backlog: BacklogWatch, metrics: AppMetrics) -> None:
        self._samples = samples
        self._backlog = backlog
        self._dead = metrics.dead_letters
        metrics.learner_alive.set_function(self._alive)
        metrics.learner_troubled.set_function(self._troubled)

    def _alive(self) -> float:
        learner = self._backlog.known.learner if self._backlog.known is not None else None
        return float(learner is not None and learner.expires_at > datetime.now(UTC))

    def _troubled(self) -> float:
        learner = self._backlog.known.learner if self._backlog.known is not None else None
        return float(learner is not None and "problem" in learner.details)

    async def run(self) -> None:
        """Counts for ever; keeps the last count while SQL is down."""
        while True:
            try:
                self._dead.set(await self._samples.dead_count())
            except StoreUnavailable:
                log.debug("dead_letters_unavailable")
            await asyncio.sleep(_WATCH_SECONDS)


class PartsHealth(Collector):
    """The parts that a supervisor keeps on this home."""

    def __init__(self, home: Path) -> None:
        self._home = home

    def collect(self) -> Iterator[Metric]:
        """See `Collector`."""
        running = GaugeMetricFamily("pawl_part_running", "Whether a supervised part runs", labels=["part"])
        failures = GaugeMetricFamily("pawl_part_failures", "Its ends in a row, 0 once it recovered", labels=["part"])
        restarts = GaugeMetricFamily("pawl_part_restarts", "Its restarts since the supervisor's start", labels=["part"])
        for part in read_parts(self._home):
            running.add_metric([part.name], float(part.state is PartState.RUNNING))
            failures.add_metric([part.name], part.failures)
            restarts.add_metric([part.name], part.restarts)
        yield from (running, failures, restarts)

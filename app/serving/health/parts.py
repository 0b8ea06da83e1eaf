"""How the parts are that `pawl up` keeps alive, as metrics; read when they are scraped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from pawl.processes.parts import PartState, read_parts


class PartsCollector(Collector):
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

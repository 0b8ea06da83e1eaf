"""One page of metrics for several processes behind one socket: a scrape reaches any of them and has to tell of all.

Each process writes its own page into a shared folder every second. Whichever is asked joins the pages, each sample with
a label `process`. Whoever reads them adds them up (`sum without (process) (...)`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from app.metrics import AppMetrics
from pawl.files import write_atomic

_LABEL = "process"


@dataclass(frozen=True, slots=True)
class Member:
    """Which of the processes this one is, from 1, and the folder they share."""

    number: int
    folder: Path


class GroupMetrics:
    """The metrics of this process and, as of a second ago, of those beside it."""

    def __init__(self, metrics: AppMetrics, member: Member) -> None:
        self._metrics = metrics
        self._folder = member.folder
        self._name = str(member.number)

    def write(self) -> None:
        """Writes the page, whole or not at all: another process may be reading it."""
        # Without fsync: after a crash of the machine nobody reads it.
        write_atomic(self._folder / f"{self._name}.prom", self._metrics.exposition(), durable=False)

    def exposition(self) -> bytes:
        """The Prometheus text format, all processes' samples under one heading each."""
        pages = {self._name: self._metrics.exposition().decode()}
        for path in sorted(self._folder.glob("*.prom")):
            with suppress(FileNotFoundError):  # the folder goes with the processes
                pages.setdefault(path.stem, path.read_text(encoding="utf-8"))  # of its own it has a newer page
        registry = CollectorRegistry()
        registry.register(_Joined(pages))
        return generate_latest(registry)


class _Joined(Collector):
    """Several pages as one."""

    def __init__(self, pages: dict[str, str]) -> None:
        self._pages = pages

    def describe(self) -> Iterable[Metric]:
        """Nothing, so that registering does not collect."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Each family once, with the samples of every page."""
        families: dict[str, Metric] = {}
        for name, page in sorted(self._pages.items()):
            for read in text_string_to_metric_families(page):
                family = families.setdefault(read.name, Metric(read.name, read.documentation, read.type))
                for sample in read.samples:
                    family.add_sample(sample.name, {**sample.labels, _LABEL: name}, sample.value)
        yield from families.values()

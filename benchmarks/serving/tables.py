"""Tables that a benchmark prints and the page about serving shows, both made from its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.harness import Json
from benchmarks.learning.report import Table

_COMPRESSION = ("", "MB", "accuracy %", "against float32", "texts/s alone", "in sixteen", "CPU ms alone", "in sixteen")
_COLD_START = ("", "ready, s", "first answer, s", "MiB then", "MiB after 1,200 texts from 16 clients")


def compression(name: str, found: Json) -> Table:
    """Of one data set: a row for each kind of encoder."""
    first: Mapping[str, Any] = found["rows"]["none"]
    rows = []
    for kind, row in found["rows"].items():
        change = f"{row['mean_accuracy'] - first['mean_accuracy']:+.2f}"
        speed = [float(row[key]) for key in ("per_s_1", "per_s_16", "cpu_ms_1", "cpu_ms_16")]
        rows.append((kind, float(row["megabytes"]), float(row["mean_accuracy"]), change, *speed))
    return Table(f"{name}: {found['train']} training, {found['test']} test texts", _COMPRESSION, rows)


def cold_start(starts: Mapping[str, Sequence[Json]]) -> Table:
    """A row for each kind of encoder, medians over its starts."""
    keys = ("ready_s", "answered_s", "ready_mib", "asked_mib")
    rows = [(kind, *(float(median(one[key] for one in runs)) for key in keys)) for kind, runs in starts.items()]
    return Table("`pawl serve`; medians", _COLD_START, rows)

"""Tables that a benchmark prints and the page about serving shows, both made from its results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from benchmarks.harness import Json
from benchmarks.learning.report import Table

_COMPRESSION = ("", "MB", "accuracy %", "against float32", "texts/s alone", "in sixteen", "CPU ms alone", "in sixteen")
_CURVE = (
    "loss allowed, points", "by words alone %", "accuracy %", "against off", "gained, lost", "1 client, requests/s",
    "mean ms", "64 clients, requests/s", "/ in-process",
)  # fmt: skip
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


def curve(found: Json) -> Table:
    """A row for each loss, medians over rounds; ratios are of one round."""
    rows: list[Sequence[Any]] = []
    off = found["answers"]["off"]["accuracy"]
    for loss, answers in found["answers"].items():
        rounds = [one[loss] for one in found["rounds"]]
        asked = (("1 clients", "rate"), ("1 clients", "mean_ms"), ("64 clients", "rate"))
        speed = [float(median(one[load][key] for one in rounds)) for load, key in asked]
        share = median(one[loss]["64 clients"]["rate"] / one["ceiling"] for one in found["rounds"])
        change, pairs = f"{answers['accuracy'] - off:+.2f}", f"{answers['gained']}, {answers['lost']}"
        rows.append((loss, answers["by_words"], answers["accuracy"], change, pairs, *speed, float(share)))
    return Table(f"Banking77, {found['asked']} test texts; medians of {len(found['rounds'])} rounds", _CURVE, rows)


def cold_start(starts: Mapping[str, Sequence[Json]]) -> Table:
    """A row for each kind of encoder, medians over its starts."""
    keys = ("ready_s", "answered_s", "ready_mib", "asked_mib")
    rows = [(kind, *(float(median(one[key] for one in runs)) for key in keys)) for kind, runs in starts.items()]
    return Table("`pawl serve`; medians", _COLD_START, rows)

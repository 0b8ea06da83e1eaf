"""`docs/serving.md` and its plots, written from the committed results; measures nothing.

python -m benchmarks.serving.page
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.harness import RESULTS, ROOT, Json
from benchmarks.learning.report import Table, bars
from benchmarks.serving import tables, while_learning
from benchmarks.serving.systems import LIBRARIES, TITLES

PAGE = ROOT / "docs" / "serving.md"
_LENGTHS = {
    "banking77": "Banking77, ~12 tokens",
    "phrasebank": "FinancialPhraseBank, ~30 tokens",
    "ag_news": "AG News, ~50 tokens",
}
_COMPRESSIONS = {"none": "float32, the default", "int8": "`PAWL_COMPRESSION=int8`"}
_INTRODUCTION = """# Serving, measured

Written by `python -m benchmarks.serving.page` from the results in `benchmarks/results/serving_*.json`, where settings
and machine stand. What is measured and how is in each program's `--help`; what explains a figure is in `docs/log.md`.
Everything ran on one machine, server and load generator on the same cores: figures of one run compare, others do
not. Where no library is named the encoder runs on what `PAWL_BACKEND=auto` chose. Rates count failed requests, too:
only BentoML had any."""


def page(results: Path = RESULTS) -> str:
    """The whole page, of those results that are there."""
    parts = [_INTRODUCTION]
    for kind, title in _COMPRESSIONS.items():
        parts += _part(results, f"serving_{kind}", f"Requests/s: {title}", "python -m benchmarks.serving", _rates)
    for kind, title in _COMPRESSIONS.items():
        name, command = f"serving_while_learning_{kind}", "python -m benchmarks.serving.while_learning"
        parts += _part(results, name, f"While it learns: {title}", command, _while_learning)
    for kind, title in _COMPRESSIONS.items():
        name, command = f"serving_curve_{kind}", "python -m benchmarks.serving.curve"
        parts += _part(results, name, f"Speed against loss: {title}", command, _curve)
    command = "python -m benchmarks.serving.compression"
    parts += _part(results, "serving_compression", "Compression", command, _compression)
    parts += _part(results, "serving_cold_start", "Cold start", "python -m benchmarks.serving.cold_start", _cold_start)
    return "\n\n".join(parts) + "\n"


def draw(results: Path = RESULTS, folder: Path = PAGE.parent / "plots") -> None:
    """The plots of the page."""
    for kind in _COMPRESSIONS:
        found = read(results, f"serving_{kind}")
        if found is not None:
            rounds = found["results"]["rounds"]
            heights = {
                title: [_median(rounds, system, name, "64 clients", "rate") for name in _LENGTHS]
                for system, title in TITLES.items()
                if system in rounds[0]
            }
            bars(folder, f"serving_{kind}", list(_LENGTHS.values()), heights, "requests/s, 64 clients")


def read(results: Path, name: str) -> Json | None:
    """A result, where it was measured."""
    file = results / f"{name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def _part(results: Path, name: str, title: str, command: str, shaped: Any) -> list[str]:
    found = read(results, name)
    if found is None:
        return []
    setting = " ".join(f"{key}={value}" for key, value in found["environment"].items())
    made_by = f"`{f'{setting} {command}'.strip()}`, commit {found['commit'][:7]}, {found['date'][:10]}."
    parts = [f"## {title}", made_by, *(table.markdown() for table in shaped(found["results"]))]
    if (PAGE.parent / "plots" / f"{name}.svg").is_file():
        parts.append(f"![{title}](plots/{name}.svg)")
    if goals := found["results"].get("goals"):
        parts.append("\n".join(f"* {'met' if one['met'] else '**short**'}: {one['goal']}" for one in goals))
    return parts


def _rates(found: Json) -> list[Table]:
    rounds, made = found["rounds"], []
    columns = (
        "", "1 client", "16", "64", "64 / in-process", "by words alone %", "p50 ms, 1", "p99 ms, 64",
        "p99 ms, half load", "cores, 64", "MiB",
    )  # fmt: skip
    for name, title in _LENGTHS.items():
        ceiling = [max(size["texts_per_s"] for size in one["in-process"][name].values()) for one in rounds]
        call = [one["in-process"][name]["1"]["call_ms"] for one in rounds]
        alone = [one["in-process"][name]["1"]["texts_per_s"] for one in rounds]
        rows: list[Sequence[Any]] = [
            (
                "in-process: alone; best batch",
                median(alone),
                None,
                median(ceiling),
                None,
                None,
                median(call),
                *[None] * 4,
            )
        ]
        for system, shown in TITLES.items():
            if system in rounds[0]:
                rates = [one[system][name]["64 clients"]["rate"] for one in rounds]
                share = median(rate / best for rate, best in zip(rates, ceiling, strict=True))
                rows.append((shown, *_row(rounds, system, name, share)))
        told = f"requests/s by clients on {LIBRARIES[found['backend']]}, medians of {len(rounds)} rounds"
        made.append(Table(f"{title}; {told}", columns, rows))
    return made


def _row(rounds: Sequence[Json], system: str, name: str, share: float) -> list[float | None]:
    """Rates, `share` of the ceiling, what words answered, latencies, cores, memory; None where it was not measured."""
    answers = [one[system]["answers"][name]["by_words"] for one in rounds if "answers" in one[system]]
    asked = [("1 clients", "rate"), ("16 clients", "rate"), ("64 clients", "rate"), ("1 clients", "p50_ms")]
    asked += [
        ("64 clients", "p99_ms"),
        ("50% of the best", "p99_ms"),
        ("64 clients", "cpu"),
        ("64 clients", "memory_mib"),
    ]
    found = [
        _median(rounds, system, name, load, key) if load in rounds[0][system][name] else None for load, key in asked
    ]
    return [*found[:3], share, float(median(answers)) if answers else None, *found[3:]]


def _median(rounds: Sequence[Json], system: str, name: str, load: str, key: str) -> float:
    return float(median(one[system][name][load][key] for one in rounds))


def _while_learning(found: Json) -> list[Table]:
    title = f"{found['rate']:.0f} requests/s, a correction every 0.2 s; medians over phases"
    return [Table(title, while_learning.COLUMNS, while_learning.table(found))]


def _curve(found: Json) -> list[Table]:
    return [tables.curve(found)]


def _compression(found: Json) -> list[Table]:
    return [tables.compression(name, one) for name, one in found.items()]


def _cold_start(found: Json) -> list[Table]:
    return [tables.cold_start(found["starts"])]


def main() -> None:
    """Writes page and plots."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    draw()
    PAGE.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()

"""Texts/s of a device: in-process by size of batch, and over HTTP with several front processes.

    python benchmarks/gpu.py serving --data ../shared/data --workers 1 2 4

`PAWL_BACKEND=torch` on a CUDA device, else what the settings say. Each number of processes is `pawl up --workers N` on
a home with 77 classes; every process has the encoder on the device. wrk must be on PATH. Rounds take turns; the tables
show medians over rounds.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.harness import Json, machine, parser, save, temporary_home
from benchmarks.serving.load import wrk
from benchmarks.serving.measuring import Plan, in_turn
from benchmarks.serving.preparation import load_splits, teach
from benchmarks.serving.report import report
from benchmarks.serving.systems import System, pawl

_CLIENTS = (1, 16, 64, 256)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4], help="front processes (default 1 2 4)")
    options.add_argument("--rounds", type=int, default=3, help="default 3")
    options.add_argument("--seconds", type=float, default=6.0, help="of one load (default 6)")
    given = options.parse_args(argv)
    wrk()
    before, rng, cuda = machine(), random.Random(given.seed), torch.cuda.is_available()
    plan = Plan(load_splits(given.data, rng), given.seconds)
    results: Json = {"device": torch.cuda.get_device_name() if cuda else before["cpu"], "rounds": []}
    with temporary_home() as plain, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folder = Path(scratch)
        home = replace(plain, settings={**plain.settings, "PAWL_BACKEND": "torch"}) if cuda else plain
        teach(home, plan.splits)
        systems = [_with_workers(pawl(home), count) for count in given.workers]
        results["rounds"] = in_turn(given.rounds, systems, home, plan, folder, _CLIENTS)
    report(results["rounds"], {system.name: system.title for system in systems}, list(plan.splits))
    save(f"gpu_serving_{'cuda' if cuda else 'cpu'}", vars(given), results, before, given.results)


def _with_workers(system: System, count: int) -> System:
    return replace(
        system,
        name=f"pawl-{count}",
        title=f"Pawl, {count} process{'es' if count > 1 else ''}",
        command=[*system.command, "--workers", str(count)],
    )

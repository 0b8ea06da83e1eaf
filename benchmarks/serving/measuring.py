"""Every load on one system, and the ceiling in-process, for texts of each length."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness import ROOT, BenchmarkFailed, Home, Json
from benchmarks.learning.data import Split
from benchmarks.learning.program import progress
from benchmarks.serving.answering import ask_all
from benchmarks.serving.load import Load, run, write_lines
from benchmarks.serving.preparation import TASKS
from benchmarks.serving.systems import System, started
from pawl.domain.samples import DEFAULT_TASK

CLIENTS = (1, 16, 64)
_SHARES = (0.5, 0.8)
_AS_SERVED = {"OPENBLAS_NUM_THREADS": "1"}  # as the command line sets it for the app


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of every system: the test texts of splits named by their length, for how many seconds each load,
    and whether as an open loop, too.
    """

    splits: Mapping[str, Split]
    seconds: float
    open_loop: bool = True


def in_turn(
    rounds: int, systems: Sequence[System], home: Home, plan: Plan, folder: Path, clients: Sequence[int] = CLIENTS
) -> list[Json]:
    """The ceiling and every system, one after the other, so many times: what is compared is of one round."""
    found: list[Json] = []
    with progress(rounds * (len(systems) + 1), "serving") as advance:
        for number in range(rounds):
            advance(f"round {number + 1}: in-process")
            one: Json = {"in-process": measure_ceiling(home, plan, folder)}
            for system in systems:
                advance(f"round {number + 1}: {system.title}")
                one[system.name] = measure_system(system, plan, folder, clients)
            found.append(one)
    return found


def measure_ceiling(home: Home, plan: Plan, folder: Path) -> Json:
    """Texts/s in-process, by length of text and size of batch."""
    found: Json = {}
    for name, split in plan.splits.items():
        file = write_lines(folder / f"{name}.texts", [row.text for row in split.test])
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving.ceiling",
            str(home.path),
            str(file),
            TASKS.get(name, DEFAULT_TASK),
        ]
        done = subprocess.run(
            [*command, "--seconds", str(plan.seconds)],
            cwd=ROOT, env=home.environment | _AS_SERVED, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BenchmarkFailed(f"the ceiling could not be measured:\n{done.stderr[-2000:]}")
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_system(system: System, plan: Plan, folder: Path, clients: Sequence[int] = CLIENTS) -> Json:
    """Every load on one system, by length of text."""
    found: Json = {}
    with started(system, folder / f"{system.name}.log") as server:
        for name, split in plan.splits.items():
            task = TASKS.get(name, DEFAULT_TASK)
            bodies = write_lines(folder / f"{system.name}.{name}", [system.body(row.text, task) for row in split.test])
            run(server.url, bodies, Load(clients=16), 1.0, server.pid)  # first allocations, compiled kernels
            loads: Json = {}
            for count in clients:
                load = Load(clients=count)
                loads[load.name] = run(server.url, bodies, load, plan.seconds, server.pid).json()
            best = max(one["rate"] for one in loads.values())
            for share in _SHARES if plan.open_loop else ():
                one = run(server.url, bodies, Load(rate=share * best), plan.seconds, server.pid)
                loads[f"{share:.0%} of the best"] = one.json() | {"asked": share * best}
            found[name] = loads
        if system.has_tasks:
            found["answers"] = ask_all(server.url, plan.splits)
        found["start_seconds"] = server.seconds
    return found

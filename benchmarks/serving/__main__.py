"""Requests/s and latencies of Pawl, of what could serve the same weights instead, and of the backend without HTTP.

    apt-get install wrk
    python -m benchmarks.serving --make-peers ~/.cache/pawl-peers                # minutes, once
    python -m benchmarks.serving --data ../shared/data --peers ~/.cache/pawl-peers
    python -m benchmarks.serving --data ../shared/data --systems pawl            # Pawl and its ceiling alone

All-MiniLM-L6-v2 and 77 classes, in every system. Texts of three lengths: Banking77 (~12 tokens), FinancialPhraseBank
(~30), AG News (~50). One text in a request, from 1, 16 and 64 clients that wait for their answers (closed loop), and at
50 and 80 % of the best of these rates from 256 clients that think in between (open loop). Systems take turns: each is
started, measured and stopped once a round, and what is compared is of one round; the tables show medians over rounds.
"""

from __future__ import annotations

import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.datasets import read_split
from benchmarks.harness import (
    ROOT,
    BenchmarkFailed,
    Home,
    Json,
    machine,
    notes,
    parser,
    save,
    start,
    temporary_home,
)
from benchmarks.learning.program import progress
from benchmarks.serving.load import Load, run, write_lines, wrk
from benchmarks.serving.preparation import load_texts, prepare
from benchmarks.serving.report import goals, report
from benchmarks.serving.systems import System, make_environment, pawl, peers, started, versions

KINDS = ("pipeline", "litserve", "bentoml", "ray")
SYSTEMS = ("pawl", *KINDS, *(f"{kind}-pawl" for kind in KINDS[1:]))
_CLIENTS = (1, 16, 64)
_SHARES = (0.5, 0.8)
_AS_SERVED = {"OPENBLAS_NUM_THREADS": "1"}  # as the command line sets it for the app


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of every system: texts by the name of their length, and for how many seconds each load."""

    texts: dict[str, list[str]]
    seconds: float


def measure_ceiling(home: Home, plan: Plan, folder: Path) -> Json:
    """Texts/s in-process, by length of text and size of batch."""
    found: Json = {}
    for name, texts in plan.texts.items():
        file = write_lines(folder / f"{name}.texts", texts)
        command = [sys.executable, "-m", "benchmarks.serving.ceiling", str(home.path), str(file)]
        done = subprocess.run(
            [*command, "--seconds", str(plan.seconds)],
            cwd=ROOT, env=home.environment | _AS_SERVED, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise BenchmarkFailed(f"the ceiling could not be measured:\n{done.stderr[-2000:]}")
        found[name] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure_system(system: System, plan: Plan, folder: Path) -> Json:
    """Every load on one system, by length of text."""
    found: Json = {}
    with started(system, folder / f"{system.name}.log") as server:
        for name, texts in plan.texts.items():
            bodies = write_lines(folder / f"{system.name}.{name}", [system.body(text) for text in texts])
            run(server.url, bodies, Load(clients=16), 1.0, server.pid)  # first allocations, compiled kernels
            loads: Json = {}
            for clients in _CLIENTS:
                load = Load(clients=clients)
                loads[load.name] = run(server.url, bodies, load, plan.seconds, server.pid).json()
            best = max(one["rate"] for one in loads.values())
            for share in _SHARES:
                one = run(server.url, bodies, Load(rate=share * best), plan.seconds, server.pid)
                loads[f"{share:.0%} of the best"] = one.json() | {"asked": share * best}
            found[name] = loads
        found["start_seconds"] = server.seconds
    return found


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--make-peers", type=Path, metavar="DIR", help="install the peers there, and do nothing else")
    options.add_argument("--peers", type=Path, metavar="DIR", help="where they are; without it Pawl is measured alone")
    options.add_argument("--systems", nargs="+", choices=SYSTEMS, help="only these (default: all that can be)")
    options.add_argument("--rounds", type=int, default=3, help="default 3")
    options.add_argument("--seconds", type=float, default=6.0, help="of one load (default 6)")
    given = options.parse_args(argv)
    if given.make_peers is not None:
        for kind in KINDS:
            notes.print(f"{kind}: {make_environment(kind, given.make_peers.expanduser())}", markup=False)
        return
    if given.data is None:
        options.error("--data: which folder?")
    wrk()
    before, rng = machine(), random.Random(given.seed)
    plan = Plan(load_texts(given.data, rng), given.seconds)
    chosen = given.systems or (SYSTEMS if given.peers else SYSTEMS[:1])
    results: Json = {"rounds": [], "versions": {}}
    with temporary_home() as home, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        folder = Path(scratch)
        encoder = prepare(home, read_split(given.data / "banking77")[0], rng)
        systems = [pawl(home)] if "pawl" in chosen else []
        others = [name for name in chosen if name != "pawl"]
        if others:
            if given.peers is None:
                options.error("--peers: where are they?")
            systems += peers(others, given.peers.expanduser(), encoder)
            kinds = sorted({name.partition("-")[0] for name in others})
            results["versions"] = {kind: versions(kind, given.peers.expanduser()) for kind in kinds}
        with progress(given.rounds * (len(systems) + 1), "serving") as advance:
            for number in range(given.rounds):
                advance(f"round {number + 1}: in-process")
                one: Json = {"in-process": measure_ceiling(home, plan, folder)}
                for system in systems:
                    advance(f"round {number + 1}: {system.title}")
                    one[system.name] = measure_system(system, plan, folder)
                results["rounds"].append(one)
    results["lengths"] = {name: statistics.mean(len(text) for text in texts) for name, texts in plan.texts.items()}
    report(results["rounds"], {system.name: system.title for system in systems}, list(plan.texts))
    results["goals"] = goals(results["rounds"], list(plan.texts))
    save("serving", vars(given), results, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))

"""What learning does to answers: latencies at half load while heads are swapped, and while the encoder is trained.

    python -m benchmarks.serving.while_learning --data ../shared/data

`pawl up` with Banking77's classes on this machine alone: app, learner and, at the end, a consolidation share its cores.
All training texts are learned, and test texts are asked, some of which words answer alone.
The load is an open loop at 50 % of the rate that 16 clients reach. Quiet phases and phases with corrections (one every
200 ms, each a version that is swapped in) take turns; p99 is compared pair by pair. Then a consolidation is asked for,
and the load goes on until it ends. No request may fail.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.datasets import Labelled, one_of_each, read_split, shuffled
from benchmarks.harness import BenchmarkFailed, Json, goal, machine, parser, save, show, start, temporary_home
from benchmarks.learning.data import Split
from benchmarks.serving.load import Found, Load, run, write_lines
from benchmarks.serving.preparation import teach
from benchmarks.serving.systems import Started, pawl, started
from benchmarks.traffic import Traffic, traffic
from pawl.settings import load_settings

_SHARE = 0.5
_EVERY_SECONDS = 0.2
_CORRECTIONS = 25  # in one phase; two phases make the fifty swaps
_PIECE_SECONDS = 5.0
_LONGEST_SECONDS = 900.0


class Bench:
    """A running Pawl, a load on it, and the corrections that are still to be sent."""

    def __init__(self, server: Started, client: Traffic, bodies: Path, corrections: Sequence[Labelled]) -> None:
        self.server = server
        self.client = client
        self._bodies = bodies
        self._corrections = list(corrections)
        self.load = Load(clients=16)

    async def under_load(self, seconds: float) -> Found:
        """The load for so long."""
        return await asyncio.to_thread(run, self.server.url, self._bodies, self.load, seconds, self.server.pid)

    async def correct(self) -> None:
        """Corrections, one after the other."""
        for _ in range(_CORRECTIONS):
            row = self._corrections.pop()
            await self.client.request("POST", "/v1/feedback", json={"text": row.text, "label": row.label})
            await asyncio.sleep(_EVERY_SECONDS)

    async def version(self) -> int:
        """The live version's number."""
        return int((await self.client.request("GET", "/v1/model"))["version"])


async def measure(bench: Bench, rounds: int, seconds: float, *, train: bool) -> Json:
    """Quiet phases and phases with swaps in turn, then a consolidation where one is wanted."""
    best = await bench.under_load(seconds)
    bench.load = Load(rate=_SHARE * best.rate)
    await bench.under_load(2.0)
    pairs: list[Json] = []
    for _ in range(rounds):
        quiet = await bench.under_load(seconds)
        before = await bench.version()
        swapping, _ = await asyncio.gather(bench.under_load(seconds), bench.correct())
        await bench.client.settle(2.0)
        swaps = await bench.version() - before
        pairs.append({"quiet": quiet.json(), "swaps": swapping.json() | {"versions": swaps}})
    found = {"best": best.json(), "rate": bench.load.rate, "pairs": pairs}
    return found | ({"consolidation": await consolidate(bench)} if train else {})


async def consolidate(bench: Bench) -> Json:
    """The load while a consolidation runs, in pieces of some seconds; from its request until its outcome."""
    newest = (await bench.client.versions())[-1]["number"]
    await bench.client.request("POST", "/v1/consolidations", json={})
    pieces: list[Json] = []
    begun = time.monotonic()
    outcome: Json | None = None
    while outcome is None:
        if time.monotonic() - begun > _LONGEST_SECONDS:
            raise BenchmarkFailed(f"the consolidation did not end within {_LONGEST_SECONDS:.0f} s")
        pieces.append((await bench.under_load(_PIECE_SECONDS)).json())
        made = await bench.client.versions(newest)
        outcome = next((one for one in made if one["kind"] == "consolidation"), None)
    return {
        "seconds": time.monotonic() - begun,
        "state": outcome["state"],
        "version": outcome["number"],
        "pieces": pieces,
        "p99_ms": statistics.median(piece["p99_ms"] for piece in pieces),
        "worst_p99_ms": max(piece["p99_ms"] for piece in pieces),
    }


COLUMNS = ("", "requests", "failed", "p50 ms", "p99 ms", "max ms", "cores")


def table(found: Json) -> list[Sequence[Any]]:
    """A row for each kind of phase: sums of requests, medians over phases of the rest."""
    quiet, swaps = ([pair[kind] for pair in found["pairs"]] for kind in ("quiet", "swaps"))
    phases = [("quiet", quiet), ("while heads are swapped", swaps)]
    if "consolidation" in found:
        phases.append(("consolidating", found["consolidation"]["pieces"]))
    return [
        (
            name,
            sum(one["requests"] for one in pieces),
            sum(one["failed"] for one in pieces),
            *(float(statistics.median(one[key] for one in pieces)) for key in ("p50_ms", "p99_ms", "max_ms", "cpu")),
        )
        for name, pieces in phases
    ]


def report(found: Json) -> list[Json]:
    """A table, and the goals of design section 7."""
    rows = table(found)
    show(f"{found['rate']:.0f} requests/s; medians over phases", COLUMNS, rows)
    quiet, swaps = ([pair[kind] for pair in found["pairs"]] for kind in ("quiet", "swaps"))
    calm = statistics.median(one["p99_ms"] for one in quiet)
    swapped = statistics.median(pair["swaps"]["p99_ms"] / pair["quiet"]["p99_ms"] for pair in found["pairs"])
    count = sum(one["versions"] for one in swaps)
    failed = sum(int(row[2]) for row in rows)
    asked = sum(int(row[1]) for row in rows)
    reached = [goal(f"p99 during {count} swaps {swapped:.2f} x the quiet one, wanted <= 1.2", met=swapped <= 1.2)]
    if "consolidation" in found:
        trained = found["consolidation"]["p99_ms"] / calm
        reached.append(goal(f"p99 during a consolidation {trained:.2f} x the quiet one, wanted <= 2", met=trained <= 2))
    return [
        *reached,
        goal(f"{failed} of {asked} requests failed, wanted 0 of 10,000", met=failed == 0 and asked >= 10_000),
    ]


async def _measure(server: Started, bodies: Path, corrections: Sequence[Labelled], given: Any) -> Json:
    async with traffic(server.url.removesuffix("/v1/predict")) as client:
        return await measure(
            Bench(server, client, bodies, corrections), given.rounds, given.seconds, train=not given.swaps
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="the data folder (see its MANIFEST.md)")
    options.add_argument("--rounds", type=int, default=4, help="pairs of phases (default 4)")
    options.add_argument("--seconds", type=float, default=8.0, help="of a phase (default 8)")
    options.add_argument("--swaps", action="store_true", help="swaps alone, no consolidation at the end")
    given = options.parse_args(argv)
    before, rng = machine(), random.Random(given.seed)
    train, test = read_split(given.data / "banking77")
    with temporary_home() as home, tempfile.TemporaryDirectory(prefix="pawl-bench-") as scratch:
        teach(home, {"banking77": Split("banking77", one_of_each(train), test)})
        system = pawl(home)
        rows = shuffled(test, rng)
        bodies = write_lines(Path(scratch) / "bodies", [system.body(row.text) for row in rows[:400]])
        corrections = rows[400 : 400 + given.rounds * _CORRECTIONS]
        with started(system, Path(scratch) / "pawl.log") as server:
            found = asyncio.run(_measure(server, bodies, corrections, given))
    found["goals"] = report(found)
    save(f"serving_while_learning_{load_settings().compression}", vars(given), found, before, given.results)


if __name__ == "__main__":
    sys.exit(start(main))

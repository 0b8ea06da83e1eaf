"""How long a correction takes until it is served, and where the time goes.

    python benchmarks/correction_latency.py --data ../shared/data/banking77 --samples 100 100000 --corrections 200

Corrections come one at a time, each a new text with a label, with a random pause of up to `--gap` seconds between them
(chores of the learner start in quiet moments, and must give way). The clock runs from sending `POST /v1/feedback` to
the first answer of `POST /v1/predict` (the same text) from a version that learned it. Nothing polls: the prediction is
sent right after the 202 with `min_version` = the live version + 1 and `wait_ms`, and so is answered the moment the
service has swapped. Only one correction is under way, so that this version is the one that learned it, unless a chore
published one in between; `GET /v1/feedback/{id}` tells, off the clock, and then the wait goes on to the next version.

Where the time goes: of each version's own record (embed, update, write, gate), and of timestamps of one machine's
clock: `accept` from sending to the row's `created_at`, `hand over` the rest up to `promoted_at` (202, stream, the
learner waking and reading SQL), `swap` from `promoted_at` to the answer (commit, hint, load, warm-up, swap, predict).

The first 100 samples of the store are imported texts. More are seeded (see `benchmarks/seeding.py`): stored through the
real `SqlSampleStore` with embeddings that are blends of real ones, so that 10^5 texts need not be encoded, and learned
by the worker, whose steps take up to 20,000 samples (`PAWL_BULK_BATCH`) meanwhile. DIR holds train.csv and test.csv;
without it texts are invented.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import httpx

from app.commands.console.terminal import progress_bar
from benchmarks.datasets import Labelled, invented, one_of_each, read_split, shuffled, write_csv
from benchmarks.harness import (
    BenchmarkFailed,
    Json,
    goal,
    machine,
    out,
    parser,
    running,
    save,
    show,
    start,
    temporary_home,
)
from benchmarks.seeding import seed_store
from benchmarks.traffic import Traffic, traffic

_P50, _P95 = 0.5, 1.0
_IMPORTED = 100
_WAIT_MS = 30_000
_GIVE_UP_SECONDS = 300.0
_PLAIN = 50
_STAGES = ("accept", "hand over", "embed", "update", "write", "gate", "swap")


@dataclass(frozen=True, slots=True)
class Correction:
    """One correction: seconds on the clock, wall-clock seconds of its start and end, the receipt, the answer."""

    seconds: float
    sent: float
    answered: float
    receipt: Json
    label: str
    wanted: str


async def correct(client: Traffic, row: Labelled, live: int) -> tuple[Correction, int]:
    """Sends one correction and waits for its first answer; also the version that gave it."""
    sent, begun = time.time(), time.perf_counter()
    accepted = await client.request("POST", "/v1/feedback", json={"text": row.text, "label": row.label})
    sample_id, version = accepted["items"][0]["id"], live
    while True:
        body = {"text": row.text, "min_version": version + 1, "wait_ms": _WAIT_MS}
        response = await client.client.post("/v1/predict", json=body)
        if response.status_code == httpx.codes.CONFLICT and time.perf_counter() - begun < _GIVE_UP_SECONDS:
            continue  # not within the longest wait that may be asked for
        answer = response.raise_for_status().json()
        seconds, answered = time.perf_counter() - begun, time.time()
        version = int(answer["version"])
        receipt = await client.request("GET", f"/v1/feedback/{sample_id}")
        if receipt["state"] not in {"queued", "learned"}:
            raise BenchmarkFailed(f"{sample_id} is {receipt['state']}: {receipt['reason']}")
        if receipt["state"] == "learned" and receipt["learned_in_version"] <= version:
            label = answer["predictions"][0]["label"]
            return Correction(seconds, sent, answered, receipt, label, row.label), version


async def run(
    client: Traffic, rows: Sequence[Labelled], gap: float, rng: random.Random, what: str
) -> tuple[list[Correction], Mapping[int, Json], list[float]]:
    """All corrections, the versions that learned them, and the seconds of plain predictions in the same run."""
    live = int((await client.request("GET", "/v1/model"))["version"])
    first = live
    plain: list[float] = []
    corrections: list[Correction] = []
    with progress_bar() as bar:
        step = bar.add_task(what, total=len(rows))
        for row in rows:
            if len(plain) < _PLAIN:
                begun = time.perf_counter()
                answer = await client.request("POST", "/v1/predict", json={"text": row.text})
                plain.append(time.perf_counter() - begun)
                live = int(answer["version"])
            await asyncio.sleep(rng.uniform(0.0, gap))
            one, live = await correct(client, row, live)
            corrections.append(one)
            bar.advance(step)
    return corrections, {version["number"]: version for version in await client.versions(first)}, plain


def stages(correction: Correction, version: Json) -> dict[str, float]:
    """Milliseconds of each stage; they add up to the whole."""
    timings = version["metrics"]["timings"]
    created = datetime.fromisoformat(correction.receipt["created_at"]).timestamp()
    promoted = datetime.fromisoformat(version["promoted_at"]).timestamp()
    known = {name: float(timings[f"{name}_ms"]) for name in ("embed", "update", "write", "gate")}
    return {
        "accept": 1e3 * (created - correction.sent),
        "hand over": 1e3 * (promoted - created) - sum(known.values()),
        **known,
        "swap": 1e3 * (correction.answered - promoted),
    }


async def measure(
    samples: int, train: Sequence[Labelled], fresh: Sequence[Labelled], gap: float, rng: random.Random
) -> Json:
    """One store size, in a home of its own."""
    imported = train[: min(samples, _IMPORTED)]
    seeded = samples - len(imported)
    with temporary_home(**({"PAWL_BULK_BATCH": "20000"} if seeded else {})) as home:
        home.pawl("import", str(write_csv(home.path / "first.csv", imported)))
        begun = time.perf_counter()
        if seeded:
            await seed_store(home, train, seeded, rng)
        with running(home) as url:
            async with traffic(url) as client:
                await client.until_learned(samples, "learning the store")
                seeding = time.perf_counter() - begun
                await client.settle(10.0)
                found = await run(client, fresh, gap, rng, f"{samples} samples: correcting")
                stored = (await client.request("GET", "/v1/model"))["learner"]["details"].get("samples")
    return _result(*found) | {
        "samples": samples,
        "seeded": seeded,
        "learned_at_the_end": stored,
        "seeding_seconds": seeding,
    }


def _result(corrections: Sequence[Correction], versions: Mapping[int, Json], plain: Sequence[float]) -> Json:
    parts = [stages(one, versions[one.receipt["learned_in_version"]]) for one in corrections]
    seconds = [one.seconds for one in corrections]
    slowest = sorted(zip(seconds, parts, strict=True), key=lambda pair: pair[0])[-max(1, len(parts) // 20) :]
    return {
        "p50": percentile(seconds, 50),
        "p95": percentile(seconds, 95),
        "max": max(seconds),
        "plain_prediction_p50": statistics.median(plain),
        "answered_as_corrected": sum(one.label == one.wanted for one in corrections) / len(corrections),
        "versions": len(versions),
        "by_chores": sum(one["trigger"] == "regularisation" for one in versions.values()),
        "stages_p50_ms": {name: percentile([part[name] for part in parts], 50) for name in _STAGES},
        "stages_p95_ms": {name: percentile([part[name] for part in parts], 95) for name in _STAGES},
        "stages_mean_ms_of_slowest_5_percent": {
            name: statistics.fmean(part[name] for _, part in slowest) for name in _STAGES
        },
        "seconds": [round(value, 4) for value in seconds],
    }


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` per cent of the values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share) // 100) - 1)]


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, help="folder with train.csv and test.csv; without it texts are invented")
    options.add_argument("--samples", type=int, nargs="+", default=[100, 100_000], help="store sizes (100 100000)")
    options.add_argument("--corrections", type=int, default=200, help="for each size (default 200)")
    options.add_argument("--gap", type=float, default=1.0, help="longest pause between corrections, s (default 1)")
    given = options.parse_args(argv)
    before = machine()
    rng = random.Random(given.seed)
    train, fresh = read_split(given.data) if given.data else (invented(77, 40, rng), [])
    if not fresh:
        train, fresh = train[given.corrections :], train[: given.corrections]
    train = shuffled(one_of_each(train), rng)
    fresh = shuffled(one_of_each(fresh), rng)[: given.corrections]
    results: list[Json] = []
    for samples in given.samples:
        results.append(asyncio.run(measure(samples, train, fresh, given.gap, rng)))
        _report(results[-1])
    for one in results:
        text = f"{one['samples']} samples: p50 {one['p50']:.3f} s, wanted <= {_P50}; p95 {one['p95']:.3f} s, <= {_P95}"
        one["goal"] = goal(text, met=one["p50"] <= _P50 and one["p95"] <= _P95)
    save("correction_latency", vars(given), {"sizes": results}, before, given.results)


def _report(one: Json) -> None:
    show(
        f"{one['samples']} samples in the store: where the milliseconds go",
        ("", "whole", *_STAGES),
        [
            ("p50", 1e3 * one["p50"], *one["stages_p50_ms"].values()),
            ("p95 (of each alone)", 1e3 * one["p95"], *one["stages_p95_ms"].values()),
            ("mean of the slowest 5 %", "", *one["stages_mean_ms_of_slowest_5_percent"].values()),
        ],
    )
    out.print(
        f"max {1e3 * one['max']:.0f} ms; a plain prediction {1e3 * one['plain_prediction_p50']:.0f} ms (median); "
        f"{one['versions']} versions, {one['by_chores']} of them by chores; "
        f"{100 * one['answered_as_corrected']:.1f} % answered as corrected",
        markup=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(start(main))

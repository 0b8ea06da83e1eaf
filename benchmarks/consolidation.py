"""What a consolidation adds to head updates, where a frozen encoder is weak: sentiment of financial news.

    python benchmarks/consolidation.py --data ../shared/data/financial_phrasebank --seed 0

FinancialPhraseBank, sentences with at least 50 % agreement, without repeats, split 80/20 at random with the seed. The
80 % are imported; the 20 % are asked of the version that serves (head updates alone). Then `POST /v1/consolidations`,
and once a version of that kind serves the same 20 % are asked again. Where the gate refuses the candidate its reasons
are printed instead. Settings are read from the environment, e.g. `PAWL_EPOCHS=2`.

FILE_OR_DIR is Sentences_50Agree.txt (or another of the set), or the folder that holds it. A CSV file with a text and a
label column does as well.
"""

from __future__ import annotations

import asyncio
import math
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))


from app.commands.console.client import ServiceClient
from app.commands.console.terminal import CommandFailed, progress_bar
from benchmarks.datasets import Labelled, one_of_each, read_labelled, read_phrasebank, shuffled, write_csv
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
from benchmarks.traffic import Answers, traffic
from worker.model.exact_tests import McNemar

_GAIN = 4.0


def read(path: Path) -> list[Labelled]:
    """The sentences, each once."""
    return one_of_each(read_labelled(path) if path.suffix == ".csv" else read_phrasebank(path))


def split(rows: Sequence[Labelled], share: float, rng: random.Random) -> tuple[list[Labelled], list[Labelled]]:
    """A random split: `share` of the rows to learn, the rest to test."""
    mixed = shuffled(rows, rng)
    cut = round(share * len(mixed))
    return mixed[:cut], mixed[cut:]


def run(train: Sequence[Labelled], test: Sequence[Labelled]) -> Json:
    """Import, test, consolidate, test again, on one running service."""
    with temporary_home() as home:
        begun = time.perf_counter()
        home.pawl("import", str(write_csv(home.path / "train.csv", train)))
        imported = time.perf_counter() - begun
        with running(home) as url:
            before = asyncio.run(_ask(url, test, "head updates alone"))
            begun = time.perf_counter()
            number = consolidate(url)
            seconds = time.perf_counter() - begun
            after = asyncio.run(_ask(url, test, "after the consolidation", number))
            with ServiceClient(url) as service:
                version = service.get(f"/v1/versions/{number}")
    results = {
        "train": len(train),
        "test": len(test),
        "import_seconds": imported,
        "before": {"accuracy": before.accuracy(test), "version": before.versions},
        "state": version["state"],
        "seconds": seconds,
        "samples_new": version["samples_new"],
        "samples_replayed": version["samples_replayed"],
        "metrics": version["metrics"],
        "gate": {key: version["gate"].get(key) for key in ("accepted", "reasons", "size_bytes", "latency_ratio")},
    }
    if version["state"] != "refused":
        results["after"] = {"accuracy": after.accuracy(test), "version": after.versions} | _paired(test, before, after)
    return results


def consolidate(url: str) -> int:
    """Asks for a consolidation and waits for what comes of it; the version's number. Raises `BenchmarkFailed`."""
    asked = False
    with ServiceClient(url) as service, progress_bar() as bar:
        step = bar.add_task("consolidating", total=1)
        for kind, data in service.events():
            if not asked:  # only now, when nothing it does can be missed
                service.post("/v1/consolidations", {})
                asked = True
            if kind == "consolidation_progress":
                bar.update(step, description=str(data["phase"]), completed=data["done"], total=data["total"] or 1)
            elif kind == "consolidation_failed":
                raise BenchmarkFailed(f"the consolidation failed: {data.get('problem')}")
            elif data.get("kind") == "consolidation":
                return int(data["version"])
    raise BenchmarkFailed("the stream of events ended")


async def _ask(url: str, test: Sequence[Labelled], what: str, version: int | None = None) -> Answers:
    async with traffic(url) as client:
        if version is not None and (await client.request("GET", f"/v1/versions/{version}"))["state"] != "refused":
            await client.reach(version)
        return await client.predict(test, what=what)


def _paired(rows: Sequence[Labelled], before: Answers, after: Answers) -> Json:
    """Texts that became right and wrong, and the two-sided exact McNemar test."""
    then = [label == row.label for label, row in zip(before.labels, rows, strict=True)]
    now = [label == row.label for label, row in zip(after.labels, rows, strict=True)]
    test = McNemar.of(then, now)
    return {"gained": test.gained, "lost": test.lost, "p": test.p_differs}


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, metavar="FILE_OR_DIR")
    options.add_argument("--share", type=float, default=0.8, help="of the sentences to learn (default 0.8)")
    options.add_argument("--limit", type=int, help="only so many sentences, for a try")
    given = options.parse_args(argv)
    before = machine()
    rng = random.Random(given.seed)
    train, test = split(shuffled(read(given.data), rng)[: given.limit], given.share, rng)
    try:
        results = run(train, test)
    except CommandFailed as error:
        raise BenchmarkFailed(str(error)) from error
    _report(results, given.seed)
    gain = results["after"]["accuracy"] - results["before"]["accuracy"] if "after" in results else math.nan
    text = f"gain of the consolidation: {gain:+.2f} points, wanted >= +{_GAIN}"
    results["goals"] = [goal(text, met=gain >= _GAIN)]
    save("consolidation", vars(given), results, before, given.results)


def _report(results: Json, seed: int) -> None:
    after = results.get("after", {})
    rows: list[tuple[str, Any]] = [
        ("accuracy, head updates alone, %", results["before"]["accuracy"]),
        ("accuracy after the consolidation, %", after.get("accuracy", "refused")),
    ]
    if after:
        rows.append(("right now / wrong now / McNemar p", f"{after['gained']} / {after['lost']} / {after['p']:.1e}"))
    rows += [
        ("import, s", results["import_seconds"]),
        ("consolidation, asked to served, s", results["seconds"]),
        ("new samples / replayed", f"{results['samples_new']} / {results['samples_replayed']}"),
    ]
    training = results["metrics"].get("consolidation", {})
    rows += [(f"phase {phase}, s", float(seconds)) for phase, seconds in training.get("wall_s", {}).items()]
    rows.append(("phase refit (parent), s", float(results["metrics"].get("refit_s", math.nan))))
    wanted = ("samples_per_s", "steps", "planned_steps", "best_step", "validation_before", "validation_after", "dtype")
    rows += [(name.replace("_", " "), training[name]) for name in wanted if training.get(name) is not None]
    show(
        f"{results['train']} sentences imported, {results['test']} to test, seed {seed}",
        ("what", "value"),
        rows,
    )
    for reason in results["gate"]["reasons"] or []:
        out.print(f"the gate says: {reason}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(start(main))

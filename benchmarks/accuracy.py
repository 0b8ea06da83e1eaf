"""Accuracy of head updates alone: everything imported at once, against one label at a time.

    python benchmarks/accuracy.py --data ../shared/data/banking77

`import`: `pawl import train.csv` into a new home, `pawl up --no-demo`, then test.csv through `POST /v1/predict`.
`stream`: `pawl up --no-demo` on another new home, the same training texts in random order, each in a request of its
own, through `POST /v1/feedback`, until all are learned and no further version comes; then the same test.

The head is exact, so the two differ only by lambda, which is chosen again as the store grows, and by what the gate
refused on the way. DIR holds train.csv and test.csv with a text and a label column.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Sequence
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.datasets import Labelled, one_of_each, read_split, shuffled, write_csv
from benchmarks.harness import Json, goal, machine, out, parser, running, save, show, start, temporary_home
from benchmarks.traffic import Answers, summary, traffic

_GOAL = 92.5
_CLOSE = 0.3


async def by_import(train: Sequence[Labelled], test: Sequence[Labelled]) -> tuple[Json, Answers]:
    """All training texts with one `pawl import`, then the test."""
    with temporary_home() as home:
        begun = time.perf_counter()
        out.print(home.pawl("import", str(write_csv(home.path / "train.csv", train))).strip(), markup=False)
        seconds = time.perf_counter() - begun
        with running(home) as url:
            async with traffic(url) as client:
                answers = await client.predict(test, what="import: testing")
                made = await client.versions()
    return _result(train, test, answers, seconds, made, {"learned": made[-1]["samples_new"]}), answers


async def by_stream(
    train: Sequence[Labelled], test: Sequence[Labelled], rng: random.Random, quiet: float
) -> tuple[Json, Answers]:
    """All training texts one label at a time, then the test."""
    with temporary_home() as home, running(home) as url:
        async with traffic(url) as client:
            taught = await client.teach(shuffled(train, rng), "stream")
            await client.settle(quiet)
            answers = await client.predict(test, what="stream: testing")
            made = await client.versions()
    return _result(train, test, answers, taught.seconds, made, taught.states), answers


def _result(
    train: Sequence[Labelled],
    test: Sequence[Labelled],
    answers: Answers,
    seconds: float,
    made: Sequence[Json],
    states: dict[str, int],
) -> Json:
    return {
        "accuracy": answers.accuracy(test),
        "states": states,
        "versions": summary(made),
        "tested_version": answers.versions,
        "regularisation": made[-1]["metrics"].get("regularisation"),
        "leave_one_out": made[-1]["metrics"].get("accuracy"),
        "learn_seconds": seconds,
        "learned_per_second": len(train) / seconds,
        "test_seconds": answers.seconds,
        "predicted_per_second": len(test) / answers.seconds,
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    options.add_argument("--mode", choices=("import", "stream", "both"), default="both", help="default both")
    options.add_argument("--quiet", type=float, default=15.0, help="seconds without a new version that end the stream")
    options.add_argument("--limit", type=int, help="only so many training and test texts, for a try")
    given = options.parse_args(argv)
    before = machine()
    rng = random.Random(given.seed)
    train, test = (shuffled(rows, rng)[: given.limit] for rows in read_split(given.data))
    train = one_of_each(train)
    modes = ("import", "stream") if given.mode == "both" else (given.mode,)
    results: Json = {"train": len(train), "test": len(test), "labels": len({row.label for row in train})}
    answers: dict[str, Answers] = {}
    for mode in modes:
        way = by_import(train, test) if mode == "import" else by_stream(train, test, rng, given.quiet)
        results[mode], answers[mode] = asyncio.run(way)
    _report(results, modes)
    results["goals"] = [
        goal(f"{mode}: {results[mode]['accuracy']:.2f} %, wanted >= {_GOAL} %", met=results[mode]["accuracy"] >= _GOAL)
        for mode in modes
    ]
    if len(modes) == 2:
        apart = abs(results["import"]["accuracy"] - results["stream"]["accuracy"])
        pairs = zip(answers["import"].labels, answers["stream"].labels, strict=True)
        results["answered_differently"] = sum(one != other for one, other in pairs)
        text = f"apart: {apart:.2f} points ({results['answered_differently']} answers differ), wanted <= {_CLOSE}"
        results["goals"].append(goal(text, met=apart <= _CLOSE + 1e-9))
    save("accuracy", vars(given), results, before, given.results)


def _report(results: Json, modes: Sequence[str]) -> None:
    show(
        f"{results['train']} training texts, {results['test']} test texts, {results['labels']} labels",
        ("way", "accuracy %", "versions", "refused", "learning s", "learned/s", "predicted/s", "lambda", "states"),
        [
            (
                mode,
                results[mode]["accuracy"],
                results[mode]["versions"]["made"],
                results[mode]["versions"]["refused"],
                results[mode]["learn_seconds"],
                results[mode]["learned_per_second"],
                results[mode]["predicted_per_second"],
                ", ".join(f"{value:g}" for one in results[mode]["regularisation"].values() for value in one.values()),
                ", ".join(f"{count} {state}" for state, count in results[mode]["states"].items()),
            )
            for mode in modes
        ],
    )


if __name__ == "__main__":
    sys.exit(start(main))

"""Class-incremental courses (B1, B2): the classes come in steps of equal size, each step as one bulk of samples.

The order of the classes is drawn with the seed, which also draws Pawl's random features. After each step all test texts
are asked; measures and their formulas are in `benchmarks/learning/metrics.py`. "Joint" gets all samples in one import.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from itertools import pairwise

import numpy as np

from benchmarks.class_incremental import Course
from benchmarks.datasets import shuffled
from benchmarks.harness import BenchmarkFailed, Json, goal, machine
from benchmarks.learning.answers import Questions
from benchmarks.learning.data import Split, invented_split, load_split
from benchmarks.learning.metrics import Examined, examine, mcnemar, summary
from benchmarks.learning.pawl import Pawl, Workshop, workshop
from benchmarks.learning.program import Advance, Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import Row, chosen

Goals = Callable[[Json], list[Json]]
"""Results by row -> goals met or not."""


def draw(split: Split, steps: int, rng: random.Random) -> Course:
    """The classes dealt into steps that differ by at most one class."""
    order = rng.sample(split.labels, len(split.labels))
    if steps > len(order):
        raise BenchmarkFailed(f"{len(order)} classes cannot come in {steps} steps")
    cuts = [round(step * len(order) / steps) for step in range(steps + 1)]
    parts = [order[start:end] for start, end in pairwise(cuts)]
    return Course(parts, shuffled(split.train, rng), split.test)


async def run(row: Row, shop: Workshop, course: Course, seed: int, advance: Advance) -> list[Examined]:
    """Teaches one learner the course; what was found after each step (`joint`: after the only one)."""
    learner, questions = row.make(shop, seed), Questions(course.test)
    examined: list[Examined] = []
    steps = [len(course.steps) - 1] if row.joint else range(len(course.steps))
    for step in steps:
        begun = time.perf_counter()
        await learner.learn(course.train if row.joint else course.lessons(step))
        await learner.rest()
        seconds = time.perf_counter() - begun
        examined.append(examine(course, step, await learner.scores(questions), seconds))
        advance(f"{row.title}, seed {seed}")
    if isinstance(learner, Pawl):
        learner.close()
    return examined


async def run_all(
    rows: Sequence[Row], shop: Workshop, split_of: Callable[[int], Split], steps: int, given: Given
) -> Json:
    """Every row with every seed; `split_of` may draw another split for each."""
    measured: dict[str, list[Json]] = {row.name: [] for row in rows}
    tests: dict[str, list[Json]] = {row.name: [] for row in rows[:-1]}
    total = sum(1 if row.joint else steps for row in rows) * given.seeds
    with progress(total, given.name) as advance:
        for seed in given.range:
            course = draw(split_of(seed), steps, random.Random(seed))
            final: list[Examined] = []
            for row in rows:
                examined = await run(row, shop, course, seed, advance)
                measured[row.name].append({"seed": seed} | summary(examined))
                final.append(examined[-1])
            for row, one, other in zip(rows, final, final[1:], strict=False):
                tests[row.name].append(mcnemar(one.right, other.right))
    return {
        row.name: {"title": row.title, "runs": measured[row.name], "mcnemar_next": tests.get(row.name, [])}
        for row in rows
    }


def start_course(
    name: str,
    description: str | None,
    argv: Sequence[str] | None,
    dataset: str,
    steps: int,
    goals: Goals,
    default_rows: str | None = None,
) -> None:
    """The program of one data set."""
    given = read_options(name, description, argv)
    before = machine()

    def split_of(seed: int) -> Split:
        return invented_split(6, 12, 6, random.Random(0)) if given.quick else load_split(dataset, given.source, seed)

    split = split_of(given.first_seed)
    steps = min(steps, 3) if given.quick else steps
    rows = chosen(given.rows or default_rows)
    with workshop(given.cache) as shop:
        shop.encoder().prepare(row.text for row in (*split.train, *split.test))
        results = asyncio.run(run_all(rows, shop, split_of, steps, given))
    lines = {
        one["title"]: (range(1, steps + 1), _mean_lines([run["accuracy_by_step"] for run in one["runs"]]))
        for one in results.values()
        if len(one["runs"][0]["accuracy_by_step"]) == steps
    }
    each = f"{split.name}, {len(split.labels)} classes in {steps} step{'s' if steps > 1 else ''}"
    if steps > 1:
        plot(given, lines, "step", "accuracy on all classes so far, %", each)
    size = f"{len(split.train)} training and {len(split.test)} test texts"
    made = Table(f"{each}; {size}.", _COLUMNS, [_line(one) for one in results.values()])
    found: Json = {"train": len(split.train), "test": len(split.test), "steps": steps, "rows": results}
    found["goals"] = goals({key: one["runs"] for key, one in results.items()})
    publish(given, f"{name.upper()}: {each}", [made], found, before, _NOTES)


def reach(results: Json, row: str, wanted: float, unlike_joint: float | None = None) -> list[Json]:
    """Goals: the mean accuracy of a row, and how far it may be from the joint one."""
    if row not in results:
        return []
    acc = statistics.fmean(run["acc"] for run in results[row])
    found = [goal(f"{row}: {acc:.2f} %, wanted >= {wanted} %", met=acc >= wanted)]
    if unlike_joint is not None and "joint" in results:
        apart = statistics.fmean(run["acc"] for run in results["joint"]) - acc
        found.append(goal(f"{apart:.2f} points below joint, wanted <= {unlike_joint}", met=apart <= unlike_joint))
    return found


_COLUMNS = (
    "row", "ACC %", "A-bar %", "BWT", "classic forgetting", "cumulative forgetting", "s / step", "p against next row",
)  # fmt: skip
_NOTES = (
    "ACC after the last step over all classes, without task ids; A-bar its mean over steps. Classic forgetting also "
    "counts every confusion with a class that came later; cumulative forgetting holds the label space fixed. p: exact "
    "McNemar on the final answers, median over seeds."
)


def _line(one: Json) -> list[str | None]:
    runs, tests = one["runs"], one["mcnemar_next"]
    keys = ("acc", "a_bar", "bwt", "classic_forgetting", "cumulative_forgetting", "seconds_per_step")
    found = [spread([run[key] for run in runs]) if key in runs[0] else None for key in keys]
    if len(runs[0]["accuracy_by_step"]) == 1:
        found[1] = None  # a mean over one step says nothing
    return [one["title"], *found, f"{statistics.median(test['p'] for test in tests):.2g}" if tests else None]


def _mean_lines(lines: Sequence[Sequence[float]]) -> list[float]:
    means: list[float] = np.mean(np.array(lines), axis=0).tolist()
    return means

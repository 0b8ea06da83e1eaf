"""Class-incremental courses (B1, B2): the classes come in steps of equal size, each step as one bulk of samples.

The order of the classes is drawn with the seed, which also draws Pawl's random features. After each step all test texts
are asked; measures and their formulas are in `benchmarks/learning/metrics.py`. "Joint" gets all samples in one import.
Rows that consolidate train the encoder, which takes minutes on a CPU, and are measured only where `--rows` names them.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise

import numpy as np

from benchmarks.class_incremental import Course
from benchmarks.datasets import shuffled
from benchmarks.harness import BenchmarkFailed, Json, goal, machine
from benchmarks.learning.answers import Questions
from benchmarks.learning.data import Split, invented_split, load_split
from benchmarks.learning.merging import earlier, merged
from benchmarks.learning.metrics import Examined, examine, from_text, mcnemar, summary, to_text
from benchmarks.learning.paired import not_worse, paired
from benchmarks.learning.pawl_learner import Pawl, Workshop, workshop
from benchmarks.learning.program import Advance, Given, progress, read_options
from benchmarks.learning.report import Table, plot, publish, spread
from benchmarks.learning.rows import ROWS, WITHOUT_CONSOLIDATION, Row, chosen

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


@dataclass(frozen=True, slots=True)
class Run:
    """One learner's way through a course: what was found after each step, and what its consolidations did."""

    examined: list[Examined]
    consolidations: list[Json]

    def result(self, seed: int) -> Json:
        """For the results."""
        found = {"seed": seed} | summary(self.examined) | {"right": to_text(self.examined[-1].right)}
        return found | ({"consolidations": self.consolidations} if self.consolidations else {})


async def run(row: Row, shop: Workshop, course: Course, seed: int, advance: Advance) -> Run:
    """Teaches one learner the course (`joint`: in one step)."""
    learner, questions = row.make(shop, seed), Questions(course.test)
    found = Run([], [])
    last = len(course.steps) - 1
    for step in [last] if row.joint else range(last + 1):
        begun = time.perf_counter()
        await learner.learn(course.train if row.joint else course.lessons(step))
        await learner.rest()
        seconds = time.perf_counter() - begun
        examined = examine(course, step, await learner.scores(questions), seconds)
        advance(f"{row.title}, seed {seed}")
        due = row.consolidates == "after every step" or (row.consolidates == "at the end" and step == last)
        if due and isinstance(learner, Pawl):
            examined, told = await _consolidate(learner, course, step, examined, questions)
            found.consolidations.append(told)
            advance(f"{row.title}, seed {seed}: {told['outcome']}")
        found.examined.append(examined)
    if isinstance(learner, Pawl):
        await learner.close()
    return found


async def _consolidate(
    learner: Pawl, course: Course, step: int, before: Examined, questions: Questions
) -> tuple[Examined, Json]:
    """A consolidation after a step, and what is answered then: by the new version or, where it is refused, the old."""
    done = await learner.consolidate()
    after = examine(course, step, await learner.scores(questions), before.seconds)
    told = asdict(done) | {"step": step + 1, "acc_before": before.overall, "acc": after.overall}
    return after, told | {"mcnemar_before": mcnemar(after.right, before.right)}


async def run_all(
    rows: Sequence[Row], shop: Workshop, split_of: Callable[[int], Split], steps: int, given: Given
) -> Json:
    """Every row with every seed; `split_of` may draw another split for each."""
    measured: Json = {row.name: {"title": row.title, "runs": []} for row in rows}
    more = {"never": 0, "at the end": 1, "after every step": steps}
    total = sum((1 if row.joint else steps) + more[row.consolidates] for row in rows) * given.seeds
    with progress(total, given.name) as advance:
        for seed in given.range:
            course = draw(split_of(seed), steps, random.Random(seed))
            for row in rows:
                done = await run(row, shop, course, seed, advance)
                measured[row.name]["runs"].append(done.result(seed))
    return measured


def compare(rows: Json, count: int) -> Json:
    """The rows with McNemar tests on the final answers to `count` texts, for each seed that both rows were run with."""
    found: Json = {}
    for name, one in rows.items():
        against = _opponent(name, list(rows))
        theirs = {run["seed"]: from_text(run["right"], count) for run in rows[against]["runs"]} if against else {}
        tests = [
            {"seed": run["seed"]} | mcnemar(from_text(run["right"], count), theirs[run["seed"]])
            for run in one["runs"]
            if run["seed"] in theirs
        ]
        found[name] = one | {"against": against, "mcnemar": tests}
    return found


def _opponent(name: str, present: Sequence[str]) -> str | None:
    row = next(row for row in ROWS if row.name == name)
    if row.against is not None:
        return row.against if row.against in present else None
    later = [one.name for one in WITHOUT_CONSOLIDATION if one.name in present]
    return next(iter(later[later.index(name) + 1 :]), None)


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
    with workshop(given.cache, given.encoders) as shop:
        shop.prepare((row.encoder for row in rows), (row.text for row in (*split.train, *split.test)))
        results = asyncio.run(run_all(rows, shop, split_of, steps, given))
    sizes: Json = {"train": len(split.train), "test": len(split.test), "steps": steps}
    results = compare(merged(given, results, earlier(given, sizes).get("rows", {})), len(split.test))
    results = paired(results, len(split.test))
    lines = {
        one["title"]: (range(1, steps + 1), _mean_lines([run["accuracy_by_step"] for run in one["runs"]]))
        for one in results.values()
        if len(one["runs"][0]["accuracy_by_step"]) == steps
    }
    each = f"{split.name}, {len(split.labels)} classes in {steps} step{'s' if steps > 1 else ''}"
    if steps > 1 and lines:
        plot(given, lines, "step", "accuracy on all classes so far, %", each)
    size = f"{len(split.train)} training and {len(split.test)} test texts"
    made = Table(f"{each}; {size}.", _COLUMNS, [_line(one) for one in results.values()])
    reached = goals({key: one["runs"] for key, one in results.items()})
    for row in ("pawl", "base", "multilingual"):
        reached += not_worse(name.upper(), results, row)
    found = sizes | {"rows": results, "goals": reached}
    publish(given, f"{name.upper()}: {each}", [made], found, before, results.values(), _NOTES)


def reach(
    results: Json,
    row: str,
    wanted: float,
    unlike_joint: float | None = None,
    forgetting: float | None = None,
    gain: float | None = None,
) -> list[Json]:
    """Goals: a row's mean accuracy; how far it may be from the joint one with the same seeds (with a consolidation
    where the row has one); its cumulative forgetting at most; what its last consolidation has to add.
    """
    if row not in results:
        return []
    runs = results[row]
    acc = statistics.fmean(run["acc"] for run in runs)
    found = [goal(f"{row}: {acc:.2f} %, wanted >= {wanted} %", met=acc >= wanted)]
    ceiling = "joint_consolidated" if "consolidations" in runs[0] else "joint"
    joint = {run["seed"]: run["acc"] for run in results.get(ceiling, [])}
    apart = [joint[run["seed"]] - run["acc"] for run in runs if run["seed"] in joint]
    if unlike_joint is not None and apart:
        mean = statistics.fmean(apart)
        text = f"{row}: {mean:.2f} points below joint, wanted <= {unlike_joint}"
        found.append(goal(text, met=mean <= unlike_joint))
    if forgetting is not None:
        mean = statistics.fmean(run["cumulative_forgetting"] for run in runs)
        found.append(
            goal(f"{row}: cumulative forgetting {mean:.2f} points, wanted <= {forgetting}", met=mean <= forgetting)
        )
    if gain is not None:
        last = [run["consolidations"][-1] for run in runs]
        mean = statistics.fmean(one["acc"] - one["acc_before"] for one in last)
        found.append(goal(f"{row}: {mean:+.2f} points to head updates alone, wanted >= {gain}", met=mean >= gain))
    return found


_COLUMNS = (
    "row", "ACC %", "A-bar %", "BWT", "classic forgetting", "cumulative forgetting", "s / step", "consolidations", "p",
)  # fmt: skip
_NOTES = (
    "ACC after the last step over all classes, without task ids; A-bar its mean over steps. Classic forgetting also "
    "counts every confusion with a class that came later; cumulative forgetting holds the label space fixed. "
    "Consolidations: how many the gate let pass, and how long one took; where it refuses, the row has what serves. p: "
    "exact McNemar on the final answers, median over the seeds that both rows have."
)


def _line(one: Json) -> list[str | None]:
    runs, tests = one["runs"], one["mcnemar"]
    keys = ("acc", "a_bar", "bwt", "classic_forgetting", "cumulative_forgetting", "seconds_per_step")
    found = [spread([run[key] for run in runs]) if key in runs[0] else None for key in keys]
    if len(runs[0]["accuracy_by_step"]) == 1:
        found[1] = None  # a mean over one step says nothing
    done = [told for run in runs for told in run.get("consolidations", [])]
    if done:
        passed = sum(told["outcome"] == "promoted" for told in done)
        found.append(f"{passed} of {len(done)}, {statistics.fmean(told['seconds'] for told in done):.0f} s")
    else:
        found.append(None)
    p = f"{statistics.median(test['p'] for test in tests):.2g} against {one['against']}" if tests else None
    return [one["title"], *found, p]


def _mean_lines(lines: Sequence[Sequence[float]]) -> list[float]:
    means: list[float] = np.mean(np.array(lines), axis=0).tolist()
    return means

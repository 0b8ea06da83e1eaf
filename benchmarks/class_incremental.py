"""Class-incremental learning through the public API: 40 classes imported, the other 37 as feedback in 4 waves.

    python benchmarks/class_incremental.py --data ../shared/data/banking77 --seed 0

One service runs all the time. The classes are dealt in an order drawn with the seed: the first 40 are imported (step
0), the rest come in four waves (steps 1-4) of 10, 9, 9 and 9 classes, each label in a request of its own, in random
order within the wave. After every step all test texts of the classes known so far are sent to `POST /v1/predict` with
a `top_k` that brings every label's score. Let

    L_j       the labels known after step j; D_j all test texts of these, T_j those of step j's own classes
    b(j, k)   accuracy on D_j after step k >= j when the answer is the best-scored label *among L_j*
    a(j, k)   accuracy on T_j after step k >= j when any known label may be the answer

    cumulative forgetting after step k   F(k) = 1/k sum_{j<k} max_{j<=i<=k} b(j, i) - b(j, k)
    classic forgetting after step k      f(k) = 1/k sum_{j<k} max_{j<=i<k}  a(j, i) - a(j, k)

F holds the label space fixed, so that it sees only what was lost about classes known before; f also counts every
confusion with a class that came later, which the joint fit has as well. (F: Soutif-Cormerais et al., "On the importance
of cross-task features for class-incremental learning", 2021, arXiv 2106.11930; f: Chaudhry et al., ECCV 2018.)
`worst` is the largest single term of F(4).
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.datasets import Labelled, one_of_each, read_split, shuffled, write_csv
from benchmarks.harness import BenchmarkFailed, Json, goal, machine, parser, running, save, show, start, temporary_home
from benchmarks.traffic import ALL_LABELS, Answers, Traffic, summary, traffic

_GOAL = 92.0
_FORGETTING = 1.0


@dataclass(frozen=True, slots=True)
class Course:
    """Which classes come at which step, and the texts that teach and test them."""

    steps: list[list[str]]
    train: list[Labelled]
    test: list[Labelled]

    def known(self, step: int) -> set[str]:
        """L_j: labels known after a step."""
        return {label for labels in self.steps[: step + 1] for label in labels}

    def lessons(self, step: int) -> list[Labelled]:
        """Training texts of a step's own classes."""
        own = set(self.steps[step])
        return [row for row in self.train if row.label in own]

    def questions(self, step: int) -> list[Labelled]:
        """D_j: test texts of all classes known after a step."""
        known = self.known(step)
        return [row for row in self.test if row.label in known]


@dataclass(frozen=True, slots=True)
class Measured:
    """b(j, k) and a(j, k) in per cent for all j <= k of one k, and the accuracy over all known classes."""

    fixed: list[float]
    open: list[float]
    overall: float


def deal(labels: Sequence[str], base: int, waves: int, rng: random.Random) -> list[list[str]]:
    """The classes of each step: `base` first, the rest in `waves` parts whose sizes differ by one at most."""
    if not 2 <= base <= len(labels) - waves:
        raise BenchmarkFailed(f"{len(labels)} classes cannot be dealt as {base} and {waves} waves")
    order = rng.sample(list(labels), len(labels))
    rest = len(labels) - base
    sizes = [rest // waves + (wave < rest % waves) for wave in range(waves)]
    starts = [base + sum(sizes[:wave]) for wave in range(waves)]
    return [order[:base], *(order[at : at + size] for at, size in zip(starts, sizes, strict=True))]


def measure(course: Course, step: int, rows: Sequence[Labelled], answers: Answers) -> Measured:
    """The row k = `step` of both tables, from the answers to D_k."""
    fixed, open_ = [], []
    for earlier in range(step + 1):
        allowed, own = course.known(earlier), set(course.steps[earlier])
        asked = [(row, scores) for row, scores in zip(rows, answers.scores, strict=True) if row.label in allowed]
        fixed.append(_share([_best(scores, allowed) == row.label for row, scores in asked]))
        answered = zip(rows, answers.labels, strict=True)
        open_.append(_share([label == row.label for row, label in answered if row.label in own]))
    return Measured(fixed, open_, answers.accuracy(rows))


def forgetting(table: Sequence[Sequence[float]], *, with_last: bool) -> list[float]:
    """The terms j < k of F(k) (`with_last`) or f(k) for the last k; `table[k][j]` is the accuracy on j after step k."""
    last = len(table) - 1
    end = last + 1 if with_last else last
    return [max(table[i][j] for i in range(j, end)) - table[last][j] for j in range(last)]


async def run(course: Course, rng: random.Random, quiet: float) -> Json:
    """All steps on one running service."""
    with temporary_home() as home:
        home.pawl("import", str(write_csv(home.path / "base.csv", course.lessons(0))))
        with running(home) as url:
            async with traffic(url) as client:
                steps: list[Json] = [{"classes": len(course.steps[0])}]
                measured = [await _examine(client, course, 0)]
                for step in range(1, len(course.steps)):
                    taught = await client.teach(shuffled(course.lessons(step), rng), f"wave {step}")
                    await client.settle(quiet)
                    measured.append(await _examine(client, course, step))
                    steps.append(
                        {"classes": len(course.steps[step]), "states": taught.states, "seconds": taught.seconds}
                    )
                made = await client.versions()
    return _results(steps, measured) | {"versions": summary(made)}


async def _examine(client: Traffic, course: Course, step: int) -> Measured:
    rows = course.questions(step)
    return measure(course, step, rows, await client.predict(rows, ALL_LABELS, f"step {step}: testing"))


def _results(steps: Sequence[Json], measured: Sequence[Measured]) -> Json:
    fixed, open_ = [one.fixed for one in measured], [one.open for one in measured]
    terms = forgetting(fixed, with_last=True)
    return {
        "accuracy": measured[-1].overall,
        "cumulative_forgetting": sum(terms) / len(terms),
        "cumulative_forgetting_worst": max(terms),
        "classic_forgetting": sum(forgetting(open_, with_last=False)) / len(terms),
        "average_accuracy": sum(one.overall for one in measured) / len(measured),
        "steps": [dict(step) | {"accuracy": one.overall} for step, one in zip(steps, measured, strict=True)],
        "b": fixed,
        "a": open_,
    }


def _best(scores: dict[str, float], allowed: set[str]) -> str:
    return max((label for label in scores if label in allowed), key=lambda label: scores[label])


def _share(right: Sequence[bool]) -> float:
    return 100.0 * sum(right) / len(right)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs the benchmark."""
    options = parser(__doc__)
    options.add_argument("--data", type=Path, required=True, help="folder with train.csv and test.csv")
    options.add_argument("--base", type=int, default=40, help="classes imported at first (default 40)")
    options.add_argument("--waves", type=int, default=4, help="waves of the others (default 4)")
    options.add_argument("--quiet", type=float, default=15.0, help="seconds without a new version that end a wave")
    given = options.parse_args(argv)
    before = machine()
    rng = random.Random(given.seed)
    train, test = read_split(given.data)
    train = one_of_each(train)
    steps = deal(sorted({row.label for row in train}), given.base, given.waves, rng)
    results = asyncio.run(run(Course(steps, train, test), rng, given.quiet))
    _report(results)
    results["goals"] = [
        goal(f"final accuracy {results['accuracy']:.2f} %, wanted >= {_GOAL} %", met=results["accuracy"] >= _GOAL),
        goal(
            f"cumulative forgetting {results['cumulative_forgetting']:.2f} points (classic: "
            f"{results['classic_forgetting']:.2f}), wanted <= {_FORGETTING}",
            met=results["cumulative_forgetting"] <= _FORGETTING,
        ),
    ]
    save("class_incremental", vars(given), results, before, given.results)


def _report(results: Json) -> None:
    last = len(results["b"]) - 1
    show(
        "accuracy in % after each step; b(j, k): on the classes known at step j, the answer one of these",
        ("step k", "classes", "all known", *(f"b({j}, k)" for j in range(last + 1)), "versions of", "seconds"),
        [
            (
                step,
                one["classes"],
                one["accuracy"],
                *(results["b"][step][j] if j <= step else "" for j in range(last + 1)),
                ", ".join(f"{count} {state}" for state, count in one.get("states", {"imported": ""}).items()),
                one.get("seconds", ""),
            )
            for step, one in enumerate(results["steps"])
        ],
    )
    show(
        "forgetting, in points",
        ("cumulative F", "its largest term", "classic f", "average accuracy %", "versions", "refused"),
        [
            (
                results["cumulative_forgetting"],
                results["cumulative_forgetting_worst"],
                results["classic_forgetting"],
                results["average_accuracy"],
                results["versions"]["made"],
                results["versions"]["refused"],
            )
        ],
    )


if __name__ == "__main__":
    sys.exit(start(main))

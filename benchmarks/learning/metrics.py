"""The measures of class-incremental learning, and the paired test between two learners.

With b(j, k), a(j, k) as in `benchmarks/class_incremental.py`, after the last step k = T:

    ACC     accuracy over the test texts of all classes, any of which may be the answer; A-bar: its mean over the steps
    BWT     1/(T-1) sum_{j<T} a(j, T) - a(j, j)                        (Lopez-Paz & Ranzato, NeurIPS 2017)
    classic forgetting f(T) and cumulative forgetting F(T) as given there
"""

from __future__ import annotations

import base64
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.class_incremental import Course, forgetting
from benchmarks.harness import Json
from benchmarks.learning.answers import Bools, Scores
from worker.model.exact_tests import McNemar


@dataclass(frozen=True, slots=True)
class Examined:
    """b(j, k) and a(j, k) in per cent for all j <= k of one k; accuracy over all known classes; seconds it took to
    learn the step; which test texts of known classes were answered rightly.
    """

    fixed: list[float]
    open: list[float]
    overall: float
    seconds: float
    right: Bools


def examine(course: Course, step: int, scores: Scores, seconds: float) -> Examined:
    """The row k = `step` of both tables; `scores` are of all the course's test texts, in their order."""
    labels = np.array([row.label for row in course.test])
    answer = scores.right(course.test)
    fixed, open_ = [], []
    for earlier in range(step + 1):
        known = course.known(earlier)
        among = answer if earlier == step else scores.right(course.test, known)
        fixed.append(_per_cent(among[np.isin(labels, list(known))]))
        open_.append(_per_cent(answer[np.isin(labels, course.steps[earlier])]))
    right = answer[np.isin(labels, list(course.known(step)))]
    return Examined(fixed, open_, _per_cent(right), seconds, right)


def summary(examined: Sequence[Examined]) -> Json:
    """All measures of one run."""
    fixed, open_ = [one.fixed for one in examined], [one.open for one in examined]
    last = examined[-1]
    result: Json = {
        "acc": last.overall,
        "a_bar": statistics.fmean(one.overall for one in examined),
        "seconds_per_step": statistics.fmean(one.seconds for one in examined),
        "accuracy_by_step": [one.overall for one in examined],
    }
    if len(examined) > 1:
        result["bwt"] = statistics.fmean(last.open[j] - open_[j][j] for j in range(len(examined) - 1))
        result["classic_forgetting"] = statistics.fmean(forgetting(open_, with_last=False))
        result["cumulative_forgetting"] = statistics.fmean(forgetting(fixed, with_last=True))
    return result


def to_text(right: Bools) -> str:
    """Outcomes (n,) for a JSON file."""
    return base64.b64encode(np.packbits(right).tobytes()).decode()


def from_text(text: str, count: int) -> Bools:
    """The `count` outcomes that `to_text` wrote."""
    packed = np.frombuffer(base64.b64decode(text), dtype=np.uint8)
    return np.unpackbits(packed, count=count).astype(bool)


def mcnemar(one: Bools, other: Bools) -> Json:
    """Exact two-sided McNemar test on paired outcomes (n,): how many one alone got right, the other alone, p."""
    test = McNemar.of(other, one)
    return {"only_this": test.gained, "only_other": test.lost, "p": test.p_differs}


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    """Mean and sample standard deviation (0 for a single value)."""
    return statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else 0.0


def _per_cent(right: Bools) -> float:
    return 100.0 * float(right.mean())

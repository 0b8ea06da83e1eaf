"""The paired test of a row against another over all seeds that both have: exact McNemar on the pooled outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.harness import Json, goal
from benchmarks.learning.metrics import from_text
from benchmarks.learning.rows import ROWS, Row
from worker.model.exact_tests import McNemar

_WORSE = 0.05


def paired(rows: Mapping[str, Json], count: int, known: Sequence[Row] = ROWS) -> Json:
    """The rows, each with `paired`: its test against the row it names, None where that one is not there.

    `runs` have `seed` and `right`, outcomes of the same `count` texts in the same order (`metrics.to_text`).
    """
    against = {row.name: row.against for row in known}
    return {name: one | {"paired": _test(one, rows, against.get(name), count)} for name, one in rows.items()}


def _test(one: Json, rows: Mapping[str, Json], against: str | None, count: int) -> Json | None:
    if against is None or against not in rows:
        return None
    theirs = {run["seed"]: run["right"] for run in rows[against]["runs"] if "right" in run}
    both = [(run["right"], theirs[run["seed"]]) for run in one["runs"] if "right" in run and run["seed"] in theirs]
    if not both:
        return None
    tests = [McNemar.of(from_text(other, count), from_text(own, count)) for own, other in both]
    test = McNemar(sum(one.lost for one in tests), sum(one.gained for one in tests))
    return {"against": against, "seeds": len(tests), "gained": test.gained, "lost": test.lost, "p": test.p_differs,
            "p_worse": test.p_worse}  # fmt: skip


def not_worse(name: str, rows: Mapping[str, Json], row: str = "pawl") -> list[Json]:
    """The goal that a row is not worse than the one it is tested against; empty where there is no such test."""
    test = rows.get(row, {}).get("paired")
    if test is None:
        return []
    told = f"{test['gained']} gained, {test['lost']} lost against {test['against']}, p of worse {test['p_worse']:.2g}"
    return [goal(f"{name}, {row}: {told}, wanted not worse", met=test["p_worse"] >= _WORSE)]

"""The rows of the tables: named configurations of a learner.

A row with another encoder, or with consolidations between the steps, is one more `Row` with a `make` of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.harness import BenchmarkFailed
from benchmarks.learning.answers import Learner
from benchmarks.learning.floors import NearestClassMean, NGramRidge
from benchmarks.learning.pawl import Workshop


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    name    what it is called on the command line and in the results.
    title   what it is called in the table.
    make    an untaught learner; gets the seed of its random features.
    joint   whether everything comes in one import instead of step by step.
    """

    name: str
    title: str
    make: Callable[[Workshop, int], Learner]
    joint: bool = False


def _pawl(name: str, title: str, *, joint: bool = False, retune: bool = True, **settings: object) -> Row:
    return Row(name, title, lambda shop, seed: shop.pawl(retune=retune, seed=seed, **settings), joint)


ROWS = (
    Row("ngram", "n-gram ridge", lambda shop, seed: NGramRidge()),
    Row("class_mean", "frozen encoder + nearest class mean", lambda shop, seed: NearestClassMean(shop.encoder())),
    _pawl("embedding_only", "Pawl without random features (M = 0)", random_features=0),
    _pawl("one_layer", "Pawl on the last layer alone (M = 2,048)", pooled_layers=1, random_features=2048),
    _pawl("no_young", "Pawl without weights for young classes", young_class_size=1),
    _pawl("no_prior", "Pawl without prior correction", prior_correction=0.0),
    _pawl("fixed_lambda", "Pawl with lambda as chosen at the first version", retune=False),
    _pawl("pawl", "Pawl (head updates only: the default)"),
    _pawl("joint", "Pawl, all at once in one import (ceiling)", joint=True),
)
"""Each is tested against the next."""


def chosen(names: str | None, rows: Sequence[Row] = ROWS) -> list[Row]:
    """The rows with these names (comma-separated), in the table's order; all where none is named."""
    if names is None:
        return list(rows)
    wanted = [name.strip() for name in names.split(",")]
    unknown = set(wanted) - {row.name for row in rows}
    if unknown:
        raise BenchmarkFailed(f"there is no row {sorted(unknown)}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if row.name in wanted]

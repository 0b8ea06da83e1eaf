"""The rows of the tables: named configurations of a learner. One with another encoder is one more `Row`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.harness import BenchmarkFailed
from benchmarks.learning.answers import Learner
from benchmarks.learning.floors import NearestClassMean, NGramRidge
from benchmarks.learning.pawl_learner import Workshop
from pawl.domain.encoders import NO_ENCODER


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table.

    name    what it is called on the command line and in the results.
    title   what it is called in the table.
    make    an untaught learner; gets the seed of its random features.
    joint   whether everything comes in one import instead of step by step.
    consolidates    when the encoder is trained on what is in the store: minutes on a CPU, so these rows are measured
            only where they are named.
    against the row it is tested against; where it says none, the next one.
    encoder the encoder it has, by the name that `--encoder` gives a source; None for the one of the settings.
    """

    name: str
    title: str
    make: Callable[[Workshop, int], Learner]
    joint: bool = False
    consolidates: Literal["never", "at the end", "after every step"] = "never"
    against: str | None = None
    encoder: str | None = None


def _pawl(
    name: str,
    title: str,
    *,
    joint: bool = False,
    retune: bool = True,
    against: str | None = None,
    encoder: str | None = None,
    **settings: object,
) -> Row:
    def make(shop: Workshop, seed: int) -> Learner:
        return shop.pawl(retune=retune, seed=seed, **shop.settings_for(encoder), **settings)

    return Row(name, title, make, joint, against=against, encoder=encoder)


def _consolidated(
    name: str,
    title: str,
    when: Literal["at the end", "after every step"],
    *,
    joint: bool = False,
    against: str = "pawl",
    **settings: object,
) -> Row:
    return Row(name, title, lambda shop, seed: shop.pawl(retune=True, seed=seed, **settings), joint, when, against)


ROWS = (
    Row("ngram", "n-gram ridge", lambda _shop, _seed: NGramRidge()),
    Row("class_mean", "frozen encoder + nearest class mean", lambda shop, _seed: NearestClassMean(shop.encoder())),
    _pawl("embedding_only", "Pawl without random features (M = 0)", random_features=0),
    _pawl("one_layer", "Pawl on the last layer alone (M = 2,048)", pooled_layers=1, random_features=2048),
    _pawl("no_young", "Pawl without weights for young classes", young_class_size=1),
    _pawl("no_prior", "Pawl without prior correction", prior_correction=0.0),
    _pawl("fixed_lambda", "Pawl with lambda as chosen at the first version", retune=False),
    _pawl("words", "Pawl without an encoder: the words alone", encoder=NO_ENCODER),
    _pawl("semantic", "Pawl, the semantic head alone (PAWL_LEXICAL_SIZE=0)", lexical_size=0),
    _pawl("pawl", "Pawl (head updates only: the default)", against="semantic"),
    *(
        row
        for name, shown in (("base", "all-mpnet-base-v2"), ("multilingual", "multilingual-e5-small"))
        for row in (
            _pawl(f"{name}_semantic", f"Pawl on {shown}, the semantic head alone", encoder=name, lexical_size=0),
            _pawl(name, f"Pawl on {shown}", encoder=name, against=f"{name}_semantic"),
        )
    ),
    _pawl("joint", "Pawl, all at once in one import (ceiling)", joint=True),
    _consolidated("consolidated", "Pawl, one consolidation after the last step", "at the end"),
    _consolidated(
        "consolidated_plain",
        "... without FGM (PAWL_ADVERSARIAL=off)",
        "at the end",
        against="consolidated",
        adversarial="off",
    ),
    _consolidated("consolidated_each_step", "Pawl, a consolidation after every step", "after every step"),
    _consolidated(
        "joint_consolidated", "Pawl, one import and a consolidation (ceiling of those)", "at the end", joint=True
    ),
)
WITHOUT_CONSOLIDATION = tuple(row for row in ROWS if row.consolidates == "never")
_BY_DEFAULT = tuple(row for row in WITHOUT_CONSOLIDATION if row.encoder is None)


def chosen(names: str | None, rows: Sequence[Row] = ROWS) -> list[Row]:
    """The rows with these names (comma-separated), in the table's order.

    Where no name is given, those that train no encoder and have that of the settings.
    """
    if names is None:
        return [row for row in rows if row in _BY_DEFAULT]
    wanted = [name.strip() for name in names.split(",")]
    unknown = set(wanted) - {row.name for row in rows}
    if unknown:
        raise BenchmarkFailed(f"there is no row {sorted(unknown)}; there are {', '.join(row.name for row in rows)}")
    return [row for row in rows if row.name in wanted]

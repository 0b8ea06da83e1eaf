"""The table of the methods of consolidation: rows of several runs in one file, each compared with the first."""

from __future__ import annotations

import argparse
import json

from benchmarks.harness import Json, notes, save, show
from benchmarks.learning.attack import ATTACKS
from benchmarks.learning.consolidations_methods import METHODS
from benchmarks.learning.metrics import from_text, mcnemar

TEXTS = 1500  # unless said otherwise; another number has files of its own
_SAME = ("protocol", "test", "seed", "texts", "replay", "limit", "defaults")


def _name(given: argparse.Namespace) -> str:
    part, seed = "_test" if given.test else "", f"_seed{given.seed}" if given.seed else ""
    size = "" if given.texts == TEXTS else f"_{given.texts}"
    return f"consolidations_{given.protocol}{size}{part}{seed}"


def earlier_rows(given: argparse.Namespace) -> dict[str, Json]:
    """Rows that were measured before with the same samples, so that a method can be added to them."""
    path = given.results / f"{_name(given)}.json"
    if not path.is_file():
        return {}
    document = json.loads(path.read_text(encoding="utf-8"))
    if any(document["settings"].get(key) != getattr(given, key) for key in _SAME):
        notes.print(
            f"{path} is replaced: it was measured on other samples or with other defaults", markup=False, soft_wrap=True
        )
        return {}
    return {name: row for name, row in document["results"].items() if "right" in row}


def save_rows(given: argparse.Namespace, rows: dict[str, Json], before: Json) -> None:
    """Writes the results' file."""
    settings = {key: value for key, value in vars(given).items() if key != "methods"}
    save(_name(given), settings, rows, before, given.results)


def compared(rows: dict[str, Json], count: int) -> dict[str, Json]:
    """The rows in the order of the methods, each with its McNemar test against the first of them."""
    ordered = [name for name in METHODS if name in rows]
    right = {name: from_text(rows[name]["right"], count) for name in ordered}
    tests = {name: mcnemar(right[name], right[ordered[0]]) for name in ordered}
    return {
        name: rows[name] | {"gained": test["only_this"], "lost": test["only_other"], "p": test["p"]}
        for name, test in tests.items()
    }


def report_rows(protocol: str, rows: dict[str, Json]) -> None:
    """On stdout."""
    columns = ["accuracy", "gained", "lost", "p", "train_seconds", "old classes", "new classes", *ATTACKS]
    present = [column for column in columns if any(column in row for row in rows.values())]
    first = next(iter(rows))
    table = [(name, *(row.get(column, "") for column in present)) for name, row in rows.items()]
    show(f"{protocol}: gained and lost against `{first}`", ("method", *present), table)

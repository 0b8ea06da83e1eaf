"""What the search found, for people and as settings."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from rich.console import Console
from rich.table import Table

from pawl.settings import PREFIX
from worker.model.exact_tests import McNemar
from worker.tune.search import SettingsSearch, Trial, Value
from worker.tune.trials import accuracy

_CERTAIN = 0.05


def show(console: Console, search: SettingsSearch, untouched: Sequence[bool]) -> None:
    """The table of trials, best first, and how much each setting mattered."""
    table = Table(title=f"{len(search.trials)} trials, accuracy on {len(untouched)} samples none was trained on")
    for name in ("trial", "accuracy, %", *search.space, "seconds"):
        table.add_column(name, justify="right", overflow="fold")  # a number that is cut short says something else
    table.add_row("encoder as it is", f"{accuracy([*untouched]):.2f}")
    # As `SettingsSearch.best` orders them: of equal ones the earlier, so that the recommended one is on top.
    order = sorted(search.trials, key=lambda trial: (-(trial.accuracy or 0.0), trial.number))
    for trial in order:
        name = f"{trial.number}, present settings" if trial.number == 0 else str(trial.number)
        reached = trial.state if trial.accuracy is None else f"{trial.accuracy:.2f}"
        values = (_written(trial.values[setting], 3) for setting in search.space)
        table.add_row(name, reached, *values, f"{trial.seconds:.0f}")
    console.print(table)
    importances = search.importances()
    if importances:
        parts = ", ".join(f"{name} {share:.0%}" for name, share in importances.items())
        console.print(f"what decided: {parts}", markup=False, soft_wrap=True)


def verdict(search: SettingsSearch, untouched: Sequence[bool]) -> str:
    """What to make of the best trial, in a sentence or two."""
    best, first = search.best, next((trial for trial in search.trials if trial.number == 0), None)
    if best is None or best.right is None:
        return "no trial was completed; nothing is recommended"
    text = f"trial {best.number}: {best.accuracy:.2f} %, the encoder as it is {accuracy([*untouched]):.2f} %"
    if first is None or first.right is None or best is first:
        return text + ("; the present settings were the best" if best is first else "")
    p = McNemar.of(first.right, best.right).p_differs
    text += f", the present settings {first.accuracy:.2f} % (McNemar p = {p:.2g})"
    return text if p < _CERTAIN else text + "; so small a difference may be chance"


def environment(search: SettingsSearch, best: Trial, untouched: Sequence[bool]) -> str:
    """The contents of `recommended.env`."""
    lines = [
        f"# Written by `pawl tune` on {datetime.now(UTC):%Y-%m-%d %H:%M} UTC after {len(search.trials)} trials.",
        f"# {verdict(search, untouched)}.",
        *(f"{PREFIX}{name.upper()}={_written(value)}" for name, value in best.values.items()),
    ]
    return "\n".join(lines) + "\n"


def _written(value: Value, digits: int = 4) -> str:
    return value if isinstance(value, str) else f"{value:.{digits}g}"

"""What every command shares: the two consoles, the way a command fails, and numbers as people read them."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Any, TextIO

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from pawl.domain.errors import PawlError, SettingInvalid
from pawl.json_values import Json
from pawl.settings import PREFIX, Settings

_PIPE_WIDTH = 160  # into a file or a pipe there is no width to fit


def _console(stream: TextIO) -> Console:
    return Console(file=stream, highlight=False, width=None if stream.isatty() else _PIPE_WIDTH)


out = _console(sys.stdout)
"""Results: stdout."""
notes = _console(sys.stderr)
"""Progress, hints and errors: stderr, so that stdout can be piped."""

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_PARTIAL = 3
"""Done in part: something that was asked for was refused, left out or is not done yet, and the output says what."""


class CommandFailed(PawlError):
    """{problem}"""

    def __init__(self, problem: str, hint: str = "", code: int = EXIT_FAILED) -> None:
        super().__init__(problem=problem)
        self.hint = hint
        self.code = code


class ServiceAway(CommandFailed):
    """{problem}"""


def report(error: PawlError) -> int:
    """Prints an error and what to do about it; returns the exit code."""
    if isinstance(error, SettingInvalid):
        say_error(str(error), _allowed(str(error.details["name"])))
        return EXIT_USAGE
    hint = error.hint if isinstance(error, CommandFailed) else ""
    say_error(str(error), hint)
    return error.code if isinstance(error, CommandFailed) else EXIT_FAILED


def say_error(problem: str, hint: str = "") -> None:
    """One error on stderr, the hint on a line of its own."""
    notes.print("error:", style="bold red", end=" ")
    notes.print(problem, markup=False, soft_wrap=True)
    if hint:
        notes.print(hint, markup=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """JSON on stdout, indented, never wrapped to the terminal's width."""
    print_line(json.dumps(value, indent=2, ensure_ascii=False))


def print_line(text: str) -> None:
    """One plain line on stdout, never wrapped, no markup."""
    out.print(text, markup=False, soft_wrap=True)


def progress_bar() -> Progress:
    """A progress bar on stderr that vanishes when done (and stays silent where stderr is no terminal)."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=notes,
        transient=True,
        disable=not notes.is_terminal,
    )


def confirm(question: str, *, yes: bool) -> None:
    """Asks on a terminal, unless `yes` was said. Raises `CommandFailed` for a no, and where nobody can be asked."""
    if yes:
        return
    if not (sys.stdin.isatty() and notes.is_terminal):
        raise CommandFailed("nobody can be asked here, so nothing was done", "Say --yes if you mean it.", EXIT_USAGE)
    if notes.input(f"{question} [y/N] ", markup=False).strip().lower() not in {"y", "yes"}:
        raise CommandFailed("nothing was done")


def ago(moment: datetime | str | None) -> str:
    """How long ago something was: `12 s`, `3 min`, `5 h`, `2 d`."""
    if moment is None:
        return "-"
    then = datetime.fromisoformat(moment) if isinstance(moment, str) else moment
    seconds = max(0.0, (datetime.now(UTC) - then).total_seconds())
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:  # below two of a unit the smaller one says more: `90 min`
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def words_in_a_sentence(words: Json) -> str:
    """How much a task's lexical head counts and what it answers alone, from `WordsOut`."""
    if not words["semantic"]:
        return "all answered by words: there is no other head"
    counts = f"words {words['words']:g}"
    if words["threshold"] is None:
        return f"{counts}, none answered by words alone" + (" (off)" if words["loss"] is None else "")
    share = "some" if words["share"] is None else f"{100 * words['share']:.0f} %"
    return f"{counts}, {share} answered by words at a loss of {words['loss'] or 0:.1f} points"


def allowed_values(field: str) -> str:
    """What a setting takes, in words: `integer >= 0 <= 65535`."""
    return _limits(Settings.model_json_schema()["properties"][field])


def _allowed(name: str) -> str:
    """What the setting is for and what it takes, or the nearest setting that exists."""
    known = {PREFIX + field.upper(): field for field in Settings.model_fields}
    if name.upper() not in known:
        near = get_close_matches(name.upper(), known, n=1)
        return f"Did you mean {near[0]}?" if near else f"The settings are: {', '.join(sorted(known))}."
    field = Settings.model_fields[known[name.upper()]]
    limits = allowed_values(known[name.upper()])
    return f"{name}: {field.description}" + (f" Allowed: {limits}." if limits else "")


def _limits(schema: dict[str, Any]) -> str:
    """The constraints of one setting in words, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(filter(None, (_limits(option) for option in schema["anyOf"] if option != {"type": "null"})))
    if "const" in schema:
        return str(schema["const"])
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    words = [str(schema.get("type", ""))]
    for key, word in (
        ("minimum", ">="),
        ("exclusiveMinimum", ">"),
        ("maximum", "<="),
        ("exclusiveMaximum", "<"),
        ("pattern", "matching"),
    ):
        if key in schema:
            words.append(f"{word} {schema[key]}")
    return " ".join(filter(None, words))

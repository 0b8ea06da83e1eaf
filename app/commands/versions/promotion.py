"""`pawl promote`: what it takes away and brings back, said before it happens."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.commands.console.options import AsJson, Home, Url, service_at
from app.commands.console.terminal import EXIT_USAGE, CommandFailed, confirm, notes, print_json, print_line
from pawl.json_values import Json

_HEADINGS = {
    "takes_away": "takes away",
    "brings_back": "brings back",
    "stays_out": "in the model's files, and out again with the next head update",
}


def promote(
    number: Annotated[int, typer.Argument(help="The version whose model should serve.", metavar="N")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the lineage. Needed but for --dry-run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask (a script is never asked).")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show ids.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Roll back to version N (or force a refused one). It becomes a new version; numbers only grow.

    Says what that takes away and what it brings back, by class, and asks on a terminal.
    """
    if reason is None and not dry_run:
        raise CommandFailed("give --reason, or --dry-run to see what it would do", code=EXIT_USAGE)
    # Where nobody can be asked (a script, a pipe, JSON) the reason that was given is the answer.
    asks = not (yes or as_json) and sys.stdin.isatty() and notes.is_terminal
    path = f"/v1/versions/{number}/promote"
    with service_at(url, home) as service:
        if dry_run or asks:
            _preview(service.post(path, {"dry_run": True}), number, verbose=verbose, as_json=as_json)
            if dry_run:
                notes.print("nothing was changed")
                return
            confirm("go on?", yes=False)
        made = service.post(path, {"reason": reason})
    if as_json:
        print_json(made)
        return
    print_line(f"version {made['number']} is live, with the model of version {number}")
    if not asks:
        _tell(made["effect"], verbose=verbose)


def _preview(seen: Json, number: int, *, verbose: bool, as_json: bool) -> None:
    if as_json:
        print_json(seen)
        return
    print_line(f"promoting version {number} ({seen['kind']}) in place of version {seen['live'] or '-'}")
    _tell(seen["effect"], verbose=verbose)


def _tell(effect: Json, *, verbose: bool) -> None:
    """Counts by state and class; with `verbose` the ids."""
    for name, heading in _HEADINGS.items():
        part = effect[name]
        if not part["count"]:
            if name != "stays_out":
                print_line(f"  {heading}: nothing")
            continue
        states = ", ".join(f"{count} {state}" for state, count in part["states"].items())
        print_line(f"  {heading}: {part['count']} labels ({states})")
        for task, classes in part["classes"].items():
            for label, count in classes.items():
                print_line(f"    {task}: {label} {count}")
        if verbose:
            for id in part["ids"]:
                print_line(f"    {id}")
            if part["ids_left_out"]:
                print_line(f"    ... and {part['ids_left_out']} more")

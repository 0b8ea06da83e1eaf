"""`pawl promote`: what it takes away and brings back, said before it happens."""

from __future__ import annotations

import sys
from typing import Any

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import confirm, notes, print_json, print_line

_HEADINGS = {
    "takes_away": "takes away",
    "brings_back": "brings back",
    "stays_out": "in the model's files, and out again with the next head update",
}


def promote(
    service: ServiceClient, number: int, reason: str | None, *, dry_run: bool, yes: bool, verbose: bool, as_json: bool
) -> None:
    """Makes version `number`'s model live. On a terminal it shows what that does and asks first, unless `yes`.

    Where nobody can be asked (a script, a pipe, JSON) the reason that was given is the answer.
    """
    path = f"/v1/versions/{number}/promote"
    asks = not (yes or as_json) and sys.stdin.isatty() and notes.is_terminal
    if dry_run or asks:
        seen = service.post(path, {"dry_run": True})
        if as_json:
            print_json(seen)
        else:
            print_line(f"promoting version {number} ({seen['kind']}) in place of version {seen['live'] or '-'}")
            _tell(seen["effect"], verbose=verbose)
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


def _tell(effect: dict[str, Any], *, verbose: bool) -> None:
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

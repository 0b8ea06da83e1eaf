"""What the commands share that decide about samples: which of them, who decides, and how they are listed."""

from __future__ import annotations

import getpass
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table

from app.commands.console.terminal import EXIT_USAGE, CommandFailed, ago, out
from pawl.json_values import Json

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

_PAGE = 500
_FIELDS = {"kind": "quarantined_by", "error": "reason"}  # of headings that are not the name of their field


def ids_of(
    service: ServiceClient, path: str, ids: list[str] | None, filters: dict[str, str], *, everything: bool
) -> list[str]:
    """The ids that were given or, with `everything`, all that the list at `path` has. Raises `CommandFailed`."""
    if bool(ids) == everything:
        raise CommandFailed("give either ids or --all (with filters)", code=EXIT_USAGE)
    if ids:
        if filters:
            raise CommandFailed("filters go with --all, not with ids", code=EXIT_USAGE)
        return ids
    listed: list[str] = []
    position: dict[str, Any] = {}
    while True:
        page = service.get(path, limit=_PAGE, **filters, **position)
        listed += [item["id"] for item in page["items"]]
        if page["next"] is None:
            return listed
        position = {"before": page["next"]}


def decision(action: str, reason: str, by: str | None) -> Json:
    """The body of a decision. Without a name it is the user who runs the command who decides."""
    return {"action": action, "reason": reason, "by": by or _user_name()}


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "pawl"


def print_samples(samples: Sequence[Json], headings: Sequence[str]) -> None:
    """Prints a table of samples, a column for each heading; nothing where there are no samples."""
    table = Table(box=None, pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading in {"id", "kind", "when"}, overflow="fold")
    for sample in samples:
        shown = sample | {"when": f"{ago(sample['updated_at'])} ago"}
        cells = (shown[_FIELDS.get(heading, heading)] for heading in headings)
        table.add_row(*("-" if cell is None else " ".join(str(cell).split()) for cell in cells))
    if samples:
        out.print(table, markup=False)

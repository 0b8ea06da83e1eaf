"""What the commands share that decide about samples: which of them, and who decides."""

from __future__ import annotations

import getpass
from typing import Any

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import EXIT_USAGE, CommandFailed

_PAGE = 500


def given(**filters: str | None) -> dict[str, str]:
    """The filters that were given."""
    return {name: value for name, value in filters.items() if value is not None}


def ids_of(
    service: ServiceClient, path: str, ids: list[str], filters: dict[str, str], *, everything: bool
) -> list[str]:
    """The ids that were given or, with `everything`, all that the list at `path` has. Raises `CommandFailed`."""
    if bool(ids) == everything:
        raise CommandFailed("give either ids or --all (with filters)", code=EXIT_USAGE)
    if ids:
        if filters:
            raise CommandFailed("filters go with --all, not with ids", code=EXIT_USAGE)
        return ids
    found: list[str] = []
    position: dict[str, Any] = {}
    while True:
        page = service.get(path, limit=_PAGE, **filters, **position)
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            return found
        position = {"before": page["next"]}


def user_name() -> str:
    """Who runs the command, for the audit log."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return "pawl"

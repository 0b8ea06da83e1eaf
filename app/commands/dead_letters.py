"""`pawl dead-letters`: what could not be learned, and the decisions about it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from app.commands.client import Service
from app.commands.review import user_name
from app.commands.terminal import EXIT_USAGE, CommandFailed, ago, notes, out, print_json, print_line

_PATH = "/v1/dead-letters"
_PAGE = 500


def filters(task: str | None, source: str | None, label: str | None) -> dict[str, str]:
    """Those that were given."""
    given = {"task": task, "source": source, "label": label}
    return {name: value for name, value in given.items() if value is not None}


def show_all(service: Service, chosen: dict[str, str], limit: int, as_json: bool) -> None:
    """The newest ones, and how many there are."""
    page = service.get(_PATH, limit=limit, **chosen)
    if as_json:
        print_json(page)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "task", "label", "source", "when", "text", "error"):
        table.add_column(heading, no_wrap=heading in {"id", "when"}, overflow="fold")
    for one in page["items"]:
        when = f"{ago(one['updated_at'])} ago"
        cells = (one["id"], one["task"], one["label"], one["source"], when, one["text"], one["reason"])
        table.add_row(*("-" if cell is None else " ".join(str(cell).split()) for cell in cells))
    if page["items"]:
        out.print(table, markup=False)
    notes.print(f"dead letters: {page['count'] or 'none'}")
    if page["next"]:
        notes.print("there are more; narrow it with --source, --label or --task, or raise --limit")


def show(service: Service, sample_id: str, as_json: bool) -> None:
    """One with all its fields."""
    one = service.get(f"{_PATH}/{sample_id}")
    if as_json:
        print_json(one)
        return
    for name, value in one.items():
        if value is not None:
            print_line(f"{name:<15} {value}")


def ids_of(service: Service, ids: list[str], chosen: dict[str, str], everything: bool) -> list[str]:
    """The ids that were given or, with `everything`, all that the filters leave. Raises `CommandFailed`."""
    if bool(ids) == everything:
        raise CommandFailed("give either ids or --all (with filters)", code=EXIT_USAGE)
    if ids:
        if chosen:
            raise CommandFailed("filters go with --all, not with ids", code=EXIT_USAGE)
        return ids
    found: list[str] = []
    position: dict[str, Any] = {}
    while True:
        page = service.get(_PATH, limit=_PAGE, **chosen, **position)
        found += [one["id"] for one in page["items"]]
        if page["next"] is None:
            return found
        position = {"before": page["next"]}


def decide(service: Service, action: str, ids: list[str], why: tuple[str, str | None], as_json: bool) -> bool:
    """Redrives or discards; false where some could not be, each of which is named with the reason."""
    reason, by = why
    body = {"action": action, "reason": reason, "by": by or user_name()}
    decided: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for one in ids:
        try:
            decided.append(service.post(f"{_PATH}/{one}", body))
        except CommandFailed as error:
            if len(ids) == 1:
                raise
            refused[one] = str(error)
    if as_json:
        print_json({"decided": decided, "refused": refused})
    else:
        for found in decided:
            print_line(f"{found['id']} {found['state']}")
        for sample_id, problem in refused.items():
            notes.print(f"{sample_id}: {problem}", markup=False, soft_wrap=True)
        if not ids:
            notes.print("nothing to decide about")
    return not refused

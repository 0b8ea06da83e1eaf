"""`pawl dead-letters`: what could not be learned, and the decisions about it."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import CommandFailed, ago, notes, out, print_json, print_line
from app.commands.review.decisions import user_name

PATH = "/v1/dead-letters"


def show_all(service: ServiceClient, chosen: dict[str, str], limit: int, *, as_json: bool) -> None:
    """The newest ones, and how many there are."""
    page = service.get(PATH, limit=limit, **chosen)
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


def show(service: ServiceClient, sample_id: str, *, as_json: bool) -> None:
    """One with all its fields."""
    one = service.get(f"{PATH}/{sample_id}")
    if as_json:
        print_json(one)
        return
    for name, value in one.items():
        if value is not None:
            print_line(f"{name:<15} {value}")


def decide(service: ServiceClient, action: str, ids: list[str], why: tuple[str, str | None], *, as_json: bool) -> bool:
    """Redrives or discards; false where some could not be, each of which is named with the reason."""
    reason, by = why
    body = {"action": action, "reason": reason, "by": by or user_name()}
    decided: list[dict[str, Any]] = []
    refused: dict[str, str] = {}
    for one in ids:
        try:
            decided.append(service.post(f"{PATH}/{one}", body))
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

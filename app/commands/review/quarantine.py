"""`pawl quarantine`: what waits for a look, and the decisions about it."""

from __future__ import annotations

from rich.table import Table

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import ago, notes, out, print_json, print_line
from app.commands.review.decisions import ids_of, user_name

_PATH = "/v1/quarantine"


def show(service: ServiceClient, filters: dict[str, str], limit: int, *, as_json: bool) -> None:
    """The newest labels in quarantine, and how many there are of each kind."""
    page = service.get(_PATH, limit=limit, **filters)
    if as_json:
        print_json(page)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("id", "kind", "label", "source", "when", "text", "reason"):
        table.add_column(heading, no_wrap=heading in {"id", "kind", "when"}, overflow="fold")
    for one in page["items"]:
        when = f"{ago(one['updated_at'])} ago"
        cells = (one["id"], one["quarantined_by"], one["label"], one["source"], when, one["text"], one["reason"])
        table.add_row(*("-" if cell is None else " ".join(str(cell).split()) for cell in cells))
    if page["items"]:
        out.print(table, markup=False)
    counts = ", ".join(f"{count} by {kind}" for kind, count in sorted(page["counts"].items()))
    notes.print(f"in quarantine: {counts or 'nothing'}")
    if page["next"]:
        notes.print("there are more; narrow it with --source, --label, --kind or --task, or raise --limit")


def decide(
    service: ServiceClient,
    action: str,
    ids: list[str],
    filters: dict[str, str],
    *,
    everything: bool,
    reason: str,
    by: str | None,
    as_json: bool,
) -> None:
    """Releases or discards these ids or, with `everything`, all that the filters leave."""
    chosen = ids_of(service, _PATH, ids, filters, everything=everything)
    body = {"action": action, "reason": reason, "by": by or user_name()}
    decided = [service.post(f"{_PATH}/{one}", body) for one in chosen]
    if as_json:
        print_json(decided)
        return
    for one in decided:
        print_line(f"{one['id']} {one['state']}")
    if not decided:
        notes.print("nothing to decide about")

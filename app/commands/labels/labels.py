"""`pawl labels`: the label set, listed and changed through the running service."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import CommandFailed, notes, out, print_json, print_line
from app.commands.predictions.ask import wait_for

_PATH = "/v1/labels"


def show(service: ServiceClient, task: str, *, as_json: bool) -> None:
    """Every label of a task: its state, its samples, since which version."""
    page = service.get("/v1/labels", task=task)
    if as_json:
        print_json(page)
        return
    if not page["items"]:
        print_line(f"task {task} has no labels yet")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("label", "state", "learned", "queued", "quarantined", "golden", "since version"):
        right = heading in {"learned", "queued", "quarantined", "golden", "since version"}
        table.add_column(heading, no_wrap=True, justify="right" if right else "left")
    for label in page["items"]:
        state = f"{label['state']}, now {label['now']}" if label["now"] else label["state"]
        state += ", change pending" if label["pending"] else ""
        counts = [str(label["samples"][name]) for name in ("learned", "queued", "quarantined", "golden")]
        table.add_row(label["name"], state, *counts, str(label["since_version"] or "-"))
    out.print(table, markup=False)
    for same in page["probably_the_same"]:
        print_line(f"probably the same: {same['label']!r} and {same['into']!r}; to make them one: {same['command']}")


def add(service: ServiceClient, label: str, task: str, reason: str | None, *, create_task: bool, as_json: bool) -> None:
    """A label that exists before its first sample, or that comes back."""
    body: dict[str, Any] = _given(name=label, task=task, reason=reason)
    change = service.post(_PATH, body | ({"create_task": True} if create_task else {}))
    _warn(change)
    print_json(change) if as_json else print_line(f"{label} can be used in task {task}")


def rename(
    service: ServiceClient, label: str, new: str, task: str, reason: str | None, *, wait: bool, as_json: bool
) -> None:
    """One label under another name."""
    _tell(
        service,
        service.patch(_PATH, _given(name=new, reason=reason), label=label, task=task),
        wait=wait,
        as_json=as_json,
    )


def merge(
    service: ServiceClient, label: str, into: str, task: str, reason: str | None, *, wait: bool, as_json: bool
) -> None:
    """Two labels as one."""
    _tell(
        service,
        service.patch(_PATH, _given(merge_into=into, reason=reason), label=label, task=task),
        wait=wait,
        as_json=as_json,
    )


def retire(service: ServiceClient, label: str, task: str, reason: str | None, *, wait: bool, as_json: bool) -> None:
    """A label that is not answered any more."""
    _tell(service, service.delete(_PATH, **_given(label=label, task=task, reason=reason)), wait=wait, as_json=as_json)


def _warn(change: dict[str, Any]) -> None:
    for warning in change.get("warnings") or ():
        notes.print(f"warning: {warning}", markup=False, soft_wrap=True)


def _tell(service: ServiceClient, change: dict[str, Any], *, wait: bool, as_json: bool) -> None:
    _warn(change)
    if wait:
        change = follow(service, change["id"])
    if change["state"] == "failed":
        raise CommandFailed(f"the change of {change['label']!r} could not be carried out: {change['problem']}")
    if as_json:
        print_json(change)
        return
    what = {"rename": "is called", "merge": "is merged into"}.get(change["kind"])
    outcome = f"{what} {change['target']}" if what else "is retired"
    where = f" in version {change['version']}" if change["version"] is not None else ""
    waiting = "" if change["state"] == "applied" else f", as soon as the learner has made a version ({change['id']})"
    print_line(f"{change['label']} {outcome}{where}{waiting}")


def follow(service: ServiceClient, change_id: str, seconds: float = 120.0) -> dict[str, Any]:
    """Waits until a change is settled and its version answers."""

    def settled() -> dict[str, Any] | None:
        change = service.get(f"/v1/labels/changes/{change_id}")
        if change["state"] == "pending":
            return None
        return change if (service.served() or 0) >= (change["version"] or 0) else None

    return wait_for(settled, seconds, f"{change_id} still waits; is the learner running? See `pawl status`.")


def _given(**values: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if value is not None}

"""`pawl tasks` and `pawl demo remove`: whole tasks, or what one source said in them, through the running service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import EXIT_USAGE, CommandFailed, confirm, out, print_json, print_line
from app.commands.labels.labels import follow
from app.demo import SOURCE

_STATES = ("learned", "queued", "quarantined", "golden")


@dataclass(frozen=True, slots=True)
class DropRequest:
    """How something is to be dropped."""

    reason: str | None
    yes: bool
    dry_run: bool
    wait: bool


def show(service: ServiceClient, *, as_json: bool) -> None:
    """Every task: its labels, its samples, whether it is answered."""
    page = service.get("/v1/tasks")
    if as_json:
        print_json(page)
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("task", "state", "labels", *_STATES):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"task", "state"} else "right")
    for task in page["items"]:
        state = "served" if task["served"] else "not served"
        state += ", drop pending" if task["pending"] else ""
        table.add_row(task["name"], state, str(task["labels"]), *(str(task["samples"][name]) for name in _STATES))
    out.print(table, markup=False)


def drop(service: ServiceClient, name: str, source: str | None, request: DropRequest, *, as_json: bool) -> None:
    """One task, or what a source said in it."""
    found = [one for one in _tasks(service, source) if one["name"] == name]
    if not found:
        known = ", ".join(one["name"] for one in _tasks(service, None))
        what = f"{source!r} has no samples in task {name!r}" if source else f"there is no task {name!r}"
        raise CommandFailed(what, f"The tasks are: {known}", EXIT_USAGE)
    what = f"all of task {name}" if source is None else f"what {source!r} said in task {name}"
    _drop(service, found, source, what, request, as_json=as_json)


def remove_demo(service: ServiceClient, request: DropRequest, *, as_json: bool) -> None:
    """The demo's samples in every task."""
    found = _tasks(service, SOURCE)
    if found:
        _drop(service, found, SOURCE, "the demo", request, as_json=as_json)
    elif as_json:
        print_json([])
    else:
        print_line("no sample is of the demo; there is nothing to remove")


def _drop(
    service: ServiceClient,
    found: list[dict[str, Any]],
    source: str | None,
    what: str,
    request: DropRequest,
    *,
    as_json: bool,
) -> None:
    for task in () if as_json else found:
        print_line(f"task {task['name']}: {_counted(task)}")
    if request.dry_run:
        print_json(found) if as_json else print_line("nothing was changed (--dry-run)")
        return
    confirm(f"Take {what} out for good?", yes=request.yes)
    more = {name: value for name, value in (("source", source), ("reason", request.reason)) if value is not None}
    changes = [service.delete(f"/v1/tasks/{task['name']}", **more) for task in found]
    if request.wait:
        changes = [follow(service, change["id"]) for change in changes]
    for change in changes:
        if change["state"] == "failed":
            raise CommandFailed(f"task {change['task']} could not be changed: {change['problem']}")
    if as_json:
        print_json(changes)
        return
    for change in changes:
        where = f" in version {change['version']}" if change["version"] is not None else ""
        waits = "" if change["state"] == "applied" else f" as soon as the learner has made a version ({change['id']})"
        print_line(f"task {change['task']}: {'taken out' if not waits else 'will be taken out'}{where}{waits}")
    left = [f"{one['name']} ({_counted(one)})" for one in _tasks(service, None) if any(one["samples"].values())]
    print_line(f"what is left: {', '.join(left) or 'nothing'}")


def _tasks(service: ServiceClient, source: str | None) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = service.get("/v1/tasks", **({"source": source} if source else {}))["items"]
    return found


def _counted(task: dict[str, Any]) -> str:
    counts = ", ".join(f"{task['samples'][name]} {name}" for name in _STATES if task["samples"][name])
    labels = "1 label" if task["labels"] == 1 else f"{task['labels']} labels"
    return f"{labels}, {counts or 'no samples'}"

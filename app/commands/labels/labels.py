"""`pawl labels`: the labels of a task, listed and changed through the running service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.commands.console.options import AsJson, ChangeReason, CreateTask, Home, Task, Url, given, service_at
from app.commands.console.terminal import CommandFailed, notes, out, print_json, print_line
from app.commands.console.waiting import wait_for
from pawl.domain.samples import DEFAULT_TASK
from pawl.json_values import Json

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

labels = typer.Typer(name="labels", help="List, add, rename, merge and retire labels.", no_args_is_help=True)
Label = Annotated[str, typer.Argument(help="The label as it is now.", metavar="LABEL")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when a version with the change is served.")]

_PATH = "/v1/labels"
_COUNTS = ("learned", "queued", "quarantined", "golden")


@labels.command("list")
def labels_list(task: Task = DEFAULT_TASK, as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """Every label, how many samples it has, and what became of those that were changed."""
    with service_at(url, home) as service:
        page = service.get(_PATH, task=task)
    if as_json:
        print_json(page)
        return
    if not page["items"]:
        print_line(f"task {task} has no labels yet")
        return
    table = Table(box=None, pad_edge=False)
    for heading in ("label", "state", *_COUNTS, "since version"):
        table.add_column(heading, no_wrap=True, justify="left" if heading in {"label", "state"} else "right")
    for label in page["items"]:
        state = f"{label['state']}, now {label['now']}" if label["now"] else label["state"]
        state += ", change pending" if label["pending"] else ""
        counts = [str(label["samples"][name]) for name in _COUNTS]
        table.add_row(label["name"], state, *counts, str(label["since_version"] or "-"))
    out.print(table, markup=False)
    for same in page["probably_the_same"]:
        print_line(f"probably the same: {same['label']!r} and {same['into']!r}; to make them one: {same['command']}")


@labels.command("add")
def labels_add(
    label: Annotated[str, typer.Argument(help="The new label.", metavar="LABEL")],
    task: Task = DEFAULT_TASK,
    reason: ChangeReason = None,
    create_task: CreateTask = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Add a label before its first sample, or bring a retired one back."""
    body: Json = given(name=label, task=task, reason=reason)
    with service_at(url, home) as service:
        change = service.post(_PATH, body | ({"create_task": True} if create_task else {}))
    _warn(change)
    print_json(change) if as_json else print_line(f"{label} can be used in task {task}")


@labels.command("rename")
def labels_rename(
    label: Label,
    new: Annotated[str, typer.Argument(help="Its new name.", metavar="NEW")],
    task: Task = DEFAULT_TASK,
    reason: ChangeReason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Give a label another name. Feedback that names the old one is taken for the new one."""
    with service_at(url, home) as service:
        change = service.patch(_PATH, given(name=new, reason=reason), label=label, task=task)
        _tell(service, change, wait=wait, as_json=as_json)


@labels.command("merge")
def labels_merge(
    label: Label,
    into: Annotated[str, typer.Argument(help="The label that it becomes part of.", metavar="INTO")],
    task: Task = DEFAULT_TASK,
    reason: ChangeReason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Make two labels one, as if all samples had always been of the second."""
    with service_at(url, home) as service:
        change = service.patch(_PATH, given(merge_into=into, reason=reason), label=label, task=task)
        _tell(service, change, wait=wait, as_json=as_json)


@labels.command("retire")
def labels_retire(
    label: Label,
    task: Task = DEFAULT_TASK,
    reason: ChangeReason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take a label out of service: from the next version on it is never answered, and feedback may not name it."""
    with service_at(url, home) as service:
        change = service.delete(_PATH, **given(label=label, task=task, reason=reason))
        _tell(service, change, wait=wait, as_json=as_json)


def _warn(change: Json) -> None:
    for warning in change.get("warnings") or ():
        notes.print(f"warning: {warning}", markup=False, soft_wrap=True)


def _tell(service: ServiceClient, change: Json, *, wait: bool, as_json: bool) -> None:
    """Prints a change; with `wait` after it was carried out. Raises `CommandFailed` where it could not be."""
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


def follow(service: ServiceClient, change_id: str) -> Json:
    """Waits until a change is settled and its version answers."""

    def settled() -> Json | None:
        change = service.get(f"/v1/labels/changes/{change_id}")
        if change["state"] == "pending":
            return None
        # Applied is not yet served: the service loads the version a moment after its promotion.
        return change if (service.served() or 0) >= (change["version"] or 0) else None

    return wait_for(settled, f"{change_id} still waits; is the learner running? See `pawl status`.")

"""`pawl tasks` and `pawl demo remove`: whole tasks, or what one source said in them, through the running service."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from app.commands.console.options import AsJson, ChangeReason, Home, Url, given, service_at
from app.commands.console.terminal import EXIT_USAGE, CommandFailed, confirm, out, print_json, print_line
from app.commands.labels.labels import follow
from app.demo import SOURCE
from pawl.json_values import Json

if TYPE_CHECKING:
    from app.commands.console.client import ServiceClient

tasks = typer.Typer(name="tasks", help="List and drop tasks (label sets).", no_args_is_help=True)
demo = typer.Typer(name="demo", help="The demo that an empty home begins with.", no_args_is_help=True)
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return when a version without them is served.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")]

_STATES = ("learned", "queued", "quarantined", "golden")


@dataclass(frozen=True, slots=True)
class DropRequest:
    """What is to be dropped, in words too, and how."""

    what: str
    source: str | None
    reason: str | None
    yes: bool
    dry_run: bool
    wait: bool
    as_json: bool


@tasks.command("list")
def tasks_list(as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """Every task, with its labels and samples."""
    with service_at(url, home) as service:
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


@tasks.command("drop")
def tasks_drop(
    name: Annotated[str, typer.Argument(help="The task.", metavar="NAME")],
    source: Annotated[str | None, typer.Option(help="Drop only what this source said.")] = None,
    reason: ChangeReason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = True,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take a task out with all its samples, exactly, golden ones too. Asks on a terminal. Not to be undone."""
    what = f"all of task {name}" if source is None else f"what {source!r} said in task {name}"
    with service_at(url, home) as service:
        dropped = [task for task in _tasks(service, source) if task["name"] == name]
        if not dropped:
            known = ", ".join(task["name"] for task in _tasks(service, None))
            missing = f"{source!r} has no samples in task {name!r}" if source else f"there is no task {name!r}"
            raise CommandFailed(missing, f"The tasks are: {known}", EXIT_USAGE)
        _drop(service, dropped, DropRequest(what, source, reason, yes, dry_run, wait, as_json))


@demo.command("remove")
def demo_remove(
    reason: ChangeReason = "the demo is not needed any more",
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = True,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take the demo's samples out, exactly, with the labels and tasks that only it used. Your own stay."""
    with service_at(url, home) as service:
        with_demo = _tasks(service, SOURCE)
        if with_demo:
            _drop(service, with_demo, DropRequest("the demo", SOURCE, reason, yes, dry_run, wait, as_json))
        elif as_json:
            print_json([])
        else:
            print_line("no sample is of the demo; there is nothing to remove")


def _drop(service: ServiceClient, dropped: list[Json], request: DropRequest) -> None:
    for task in () if request.as_json else dropped:
        print_line(f"task {task['name']}: {_counted(task)}")
    if request.dry_run:
        print_json(dropped) if request.as_json else print_line("nothing was changed (--dry-run)")
        return
    confirm(f"Take {request.what} out for good?", yes=request.yes)
    query = given(source=request.source, reason=request.reason)
    changes = [service.delete(f"/v1/tasks/{task['name']}", **query) for task in dropped]
    if request.wait:
        changes = [follow(service, change["id"]) for change in changes]
    for change in changes:
        if change["state"] == "failed":
            raise CommandFailed(f"task {change['task']} could not be changed: {change['problem']}")
    if request.as_json:
        print_json(changes)
        return
    for change in changes:
        where = f" in version {change['version']}" if change["version"] is not None else ""
        waits = "" if change["state"] == "applied" else f" as soon as the learner has made a version ({change['id']})"
        print_line(f"task {change['task']}: {'taken out' if not waits else 'will be taken out'}{where}{waits}")
    left = [f"{task['name']} ({_counted(task)})" for task in _tasks(service, None) if any(task["samples"].values())]
    print_line(f"what is left: {', '.join(left) or 'nothing'}")


def _tasks(service: ServiceClient, source: str | None) -> list[Json]:
    items: list[Json] = service.get("/v1/tasks", **given(source=source or None))["items"]
    return items


def _counted(task: Json) -> str:
    counts = ", ".join(f"{task['samples'][name]} {name}" for name in _STATES if task["samples"][name])
    labels = "1 label" if task["labels"] == 1 else f"{task['labels']} labels"
    return f"{labels}, {counts or 'no samples'}"

"""`pawl labels ...`: the commands as the command line shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.console.options import AsJson, CreateTask, Home, Task, Url, service_at
from pawl.domain.samples import DEFAULT_TASK

labels = typer.Typer(name="labels", help="List, add, rename, merge and retire labels.", no_args_is_help=True)
Label = Annotated[str, typer.Argument(help="The label as it is now.", metavar="LABEL")]
Reason = Annotated[str | None, typer.Option(help="Why; kept in the lineage.")]
Wait = Annotated[bool, typer.Option("--wait", help="Return when a version with the change is served.")]


@labels.command("list")
def labels_list(task: Task = DEFAULT_TASK, as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """Every label, how many samples it has, and what became of those that were changed."""
    from app.commands.labels import labels as run

    with service_at(url, home) as service:
        run.show(service, task, as_json=as_json)


@labels.command("add")
def labels_add(
    label: Annotated[str, typer.Argument(help="The new label.", metavar="LABEL")],
    task: Task = DEFAULT_TASK,
    reason: Reason = None,
    create_task: CreateTask = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Add a label before its first sample, or bring a retired one back."""
    from app.commands.labels import labels as run

    with service_at(url, home) as service:
        run.add(service, label, task, reason, create_task=create_task, as_json=as_json)


@labels.command("rename")
def labels_rename(
    label: Label,
    new: Annotated[str, typer.Argument(help="Its new name.", metavar="NEW")],
    task: Task = DEFAULT_TASK,
    reason: Reason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Give a label another name. Feedback that names the old one is taken for the new one."""
    from app.commands.labels import labels as run

    with service_at(url, home) as service:
        run.rename(service, label, new, task, reason, wait=wait, as_json=as_json)


@labels.command("merge")
def labels_merge(
    label: Label,
    into: Annotated[str, typer.Argument(help="The label that it becomes part of.", metavar="INTO")],
    task: Task = DEFAULT_TASK,
    reason: Reason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Make two labels one, as if all samples had always been of the second."""
    from app.commands.labels import labels as run

    with service_at(url, home) as service:
        run.merge(service, label, into, task, reason, wait=wait, as_json=as_json)


@labels.command("retire")
def labels_retire(
    label: Label,
    task: Task = DEFAULT_TASK,
    reason: Reason = None,
    wait: Wait = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take a label out of service: from the next version on it is never answered, and feedback may not name it."""
    from app.commands.labels import labels as run

    with service_at(url, home) as service:
        run.retire(service, label, task, reason, wait=wait, as_json=as_json)

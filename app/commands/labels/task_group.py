"""`pawl tasks ...` and `pawl demo ...`: the commands as the command line shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.console.options import AsJson, Home, Url, service_at

tasks = typer.Typer(name="tasks", help="List and drop tasks (label sets).", no_args_is_help=True)
demo = typer.Typer(name="demo", help="The demo that an empty home begins with.", no_args_is_help=True)
Reason = Annotated[str | None, typer.Option(help="Why; kept in the lineage.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Return when a version without them is served.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would go, and change nothing.")]


@tasks.command("list")
def tasks_list(as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """Every task, with its labels and samples."""
    from app.commands.labels import tasks as run

    with service_at(url, home) as service:
        run.show(service, as_json=as_json)


@tasks.command("drop")
def tasks_drop(
    name: Annotated[str, typer.Argument(help="The task.", metavar="NAME")],
    source: Annotated[str | None, typer.Option(help="Drop only what this source said.")] = None,
    reason: Reason = None,
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = True,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take a task out with all its samples, exactly, golden ones too. Asks on a terminal. Not to be undone."""
    from app.commands.labels import tasks as run

    request = run.DropRequest(reason, yes, dry_run, wait)
    with service_at(url, home) as service:
        run.drop(service, name, source, request, as_json=as_json)


@demo.command("remove")
def demo_remove(
    reason: Reason = "the demo is not needed any more",
    yes: Yes = False,
    dry_run: DryRun = False,
    wait: Wait = True,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Take the demo's samples out, exactly, with the labels and tasks that only it used. Your own stay."""
    from app.commands.labels import tasks as run

    request = run.DropRequest(reason, yes, dry_run, wait)
    with service_at(url, home) as service:
        run.remove_demo(service, request, as_json=as_json)

"""`pawl dead-letters ...`: the commands as the command line shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.console.options import (
    AsJson,
    By,
    Everything,
    Home,
    Limit,
    OnlyLabel,
    OnlySource,
    OnlyTask,
    Reason,
    Url,
    service_at,
)
from app.commands.console.terminal import EXIT_PARTIAL

dead_letters = typer.Typer(
    name="dead-letters",
    help="Labels that could not be learned: list them, try them again, or discard them.\n\n"
    "A label is dead when learning failed with it alone, again and again, and went well without it. "
    "Without a command: `list`.",
    invoke_without_command=True,
)
Ids = Annotated[list[str] | None, typer.Argument(help="Feedback ids.", metavar="[ID]...")]


@dead_letters.callback()
def without_command(context: typer.Context) -> None:
    """Lists, where no command is given."""
    if context.invoked_subcommand is None:
        list_()


@dead_letters.command("list")
def list_(
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The newest ones, each with the error."""
    from app.commands.review import dead_letters as run
    from app.commands.review.decisions import given

    with service_at(url, home) as service:
        run.show_all(service, given(task=task, source=source, label=label), limit, as_json=as_json)


@dead_letters.command("show")
def show(
    sample_id: Annotated[str, typer.Argument(help="Feedback id.", metavar="ID")],
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """One with all that is known of it."""
    from app.commands.review import dead_letters as run

    with service_at(url, home) as service:
        run.show(service, sample_id, as_json=as_json)


@dead_letters.command("redrive")
def redrive(
    reason: Reason,
    ids: Ids = None,
    everything: Everything = False,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Queue them again, to be learned after all. Exit status 3 when some could not be."""
    _decide(
        "redrive", ids, {"task": task, "source": source, "label": label}, everything, (reason, by), as_json, url, home
    )


@dead_letters.command("discard")
def discard(
    reason: Reason,
    ids: Ids = None,
    everything: Everything = False,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Reject them for good. Exit status 3 when some could not be."""
    _decide(
        "discard", ids, {"task": task, "source": source, "label": label}, everything, (reason, by), as_json, url, home
    )


def _decide(
    action: str,
    ids: list[str] | None,
    filters: dict[str, str | None],
    everything: bool,
    why: tuple[str, str | None],
    as_json: bool,
    url: Url,
    home: Home,
) -> None:
    from app.commands.review import dead_letters as run
    from app.commands.review.decisions import given, ids_of

    with service_at(url, home) as service:
        chosen = ids_of(service, run.PATH, ids or [], given(**filters), everything=everything)
        if not run.decide(service, action, chosen, why, as_json=as_json):
            raise typer.Exit(EXIT_PARTIAL)

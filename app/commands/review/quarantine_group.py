"""`pawl quarantine ...`: the commands as the command line shows them."""

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

quarantine = typer.Typer(
    name="quarantine",
    help="List labels that were held back, release them to be learned after all, or discard them.\n\n"
    "Without a command it lists them.",
    invoke_without_command=True,
)
Ids = Annotated[list[str] | None, typer.Argument(help="The feedback's ids, as `pawl quarantine` shows them.")]
Kind = Annotated[str | None, typer.Option(help="Only what this put there: gate, flow, source, duplicates, ...")]


@quarantine.callback()
def listed_by_default(context: typer.Context) -> None:
    """Without a command: the list."""
    if context.invoked_subcommand is None:
        quarantine_list()


@quarantine.command("list")
def quarantine_list(
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    kind: Kind = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The newest labels in quarantine, each with the sentence that says why it was held back."""
    from app.commands.review import quarantine as review
    from app.commands.review.decisions import given

    with service_at(url, home) as service:
        review.show(service, given(task=task, source=source, label=label, kind=kind), limit, as_json=as_json)


@quarantine.command("release")
def quarantine_release(
    reason: Reason,
    ids: Ids = None,
    everything: Everything = False,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    kind: Kind = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Let labels be learned after all. They are not screened a second time; the gate still judges them.

    Example: `pawl quarantine release fb_01a2... --reason "the new product line"`
    """
    from app.commands.review import quarantine as review
    from app.commands.review.decisions import given

    chosen = given(task=task, source=source, label=label, kind=kind)
    with service_at(url, home) as service:
        review.decide(
            service, "release", ids or [], chosen, everything=everything, reason=reason, by=by, as_json=as_json
        )


@quarantine.command("discard")
def quarantine_discard(
    reason: Reason,
    ids: Ids = None,
    everything: Everything = False,
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    kind: Kind = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Reject labels for good: they will not be learned.

    Example: `pawl quarantine discard --all --source crawler --reason "guessed, not read"`
    """
    from app.commands.review import quarantine as review
    from app.commands.review.decisions import given

    chosen = given(task=task, source=source, label=label, kind=kind)
    with service_at(url, home) as service:
        review.decide(
            service, "discard", ids or [], chosen, everything=everything, reason=reason, by=by, as_json=as_json
        )

"""`pawl quarantine ...`: the commands as the command line shows them."""

from __future__ import annotations

from typing import Annotated

import typer

from app.commands.options import AsJson, Home, Url, service_at

quarantine = typer.Typer(
    name="quarantine",
    help="List labels that were held back, release them to be learned after all, or discard them.\n\n"
    "Without a command it lists them.",
    invoke_without_command=True,
)
Ids = Annotated[list[str] | None, typer.Argument(help="The feedback's ids, as `pawl quarantine` shows them.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit log.")]
By = Annotated[str | None, typer.Option(help="Who decides. Default: the user name.")]
All = Annotated[bool, typer.Option("--all", help="All that the filters leave, instead of ids.")]
OfTask = Annotated[str | None, typer.Option("--task", help="Only of this label set.")]
Source = Annotated[str | None, typer.Option(help="Only from this source.")]
Label = Annotated[str | None, typer.Option(help="Only with this label.")]
Kind = Annotated[str | None, typer.Option(help="Only what this put there: gate, flow, source, duplicates, ...")]


@quarantine.callback()
def listed_by_default(context: typer.Context) -> None:
    """Without a command: the list."""
    if context.invoked_subcommand is None:
        quarantine_list()


@quarantine.command("list")
def quarantine_list(
    task: OfTask = None,
    source: Source = None,
    label: Label = None,
    kind: Kind = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many to list.")] = 50,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The newest labels in quarantine, each with the sentence that says why it was held back."""
    from app.commands import review

    with service_at(url, home) as service:
        review.show(service, _given(task, source, label, kind), limit, as_json)


@quarantine.command("release")
def quarantine_release(
    reason: Reason,
    ids: Ids = None,
    everything: All = False,
    task: OfTask = None,
    source: Source = None,
    label: Label = None,
    kind: Kind = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Let labels be learned after all. They are not screened a second time; the gate still judges them.

    Example: `pawl quarantine release fb_01a2... --reason "the new product line"`
    """
    from app.commands import review

    chosen = _given(task, source, label, kind)
    with service_at(url, home) as service:
        review.decide(service, "release", ids or [], chosen, everything, reason, by, as_json)


@quarantine.command("discard")
def quarantine_discard(
    reason: Reason,
    ids: Ids = None,
    everything: All = False,
    task: OfTask = None,
    source: Source = None,
    label: Label = None,
    kind: Kind = None,
    by: By = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Reject labels for good: they will not be learned.

    Example: `pawl quarantine discard --all --source crawler --reason "guessed, not read"`
    """
    from app.commands import review

    chosen = _given(task, source, label, kind)
    with service_at(url, home) as service:
        review.decide(service, "discard", ids or [], chosen, everything, reason, by, as_json)


def _given(task: str | None, source: str | None, label: str | None, kind: str | None) -> dict[str, str]:
    filters = {"task": task, "source": source, "label": label, "kind": kind}
    return {name: value for name, value in filters.items() if value is not None}

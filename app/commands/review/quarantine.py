"""`pawl quarantine`: labels that were held back, and the decisions about them."""

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
    given,
    service_at,
)
from app.commands.console.terminal import notes, print_json, print_line
from app.commands.review.decisions import decision, ids_of, print_samples

quarantine = typer.Typer(
    name="quarantine",
    help="List labels that were held back, release them to be learned after all, or discard them.\n\n"
    "Without a command it lists them.",
    invoke_without_command=True,
)
Ids = Annotated[list[str] | None, typer.Argument(help="The feedback's ids, as `pawl quarantine` shows them.")]
Kind = Annotated[str | None, typer.Option(help="Only what this put there: gate, flow, source, duplicates, ...")]

_PATH = "/v1/quarantine"
_HEADINGS = ("id", "kind", "label", "source", "when", "text", "reason")


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
    with service_at(url, home) as service:
        page = service.get(_PATH, limit=limit, **given(task=task, source=source, label=label, kind=kind))
    if as_json:
        print_json(page)
        return
    print_samples(page["items"], _HEADINGS)
    counts = ", ".join(f"{count} by {kind}" for kind, count in sorted(page["counts"].items()))
    notes.print(f"in quarantine: {counts or 'nothing'}")
    if page["next"]:
        notes.print("there are more; narrow it with --source, --label, --kind or --task, or raise --limit")


def _add_decision(action: str, help: str) -> None:
    """Adds the command that makes one decision."""

    @quarantine.command(action, help=help)
    def decide(
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
        filters = given(task=task, source=source, label=label, kind=kind)
        with service_at(url, home) as service:
            chosen = ids_of(service, _PATH, ids, filters, everything=everything)
            decided = [service.post(f"{_PATH}/{sample_id}", decision(action, reason, by)) for sample_id in chosen]
        if as_json:
            print_json(decided)
            return
        for sample in decided:
            print_line(f"{sample['id']} {sample['state']}")
        if not decided:
            notes.print("nothing to decide about")


_add_decision(
    "release",
    "Let labels be learned after all. They are not screened a second time; the gate still judges them.\n\n"
    'Example: `pawl quarantine release fb_01a2... --reason "the new product line"`',
)
_add_decision(
    "discard",
    "Reject labels for good: they will not be learned.\n\n"
    'Example: `pawl quarantine discard --all --source crawler --reason "guessed, not read"`',
)

"""`pawl dead-letters`: labels that could not be learned, and the decisions about them."""

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
from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, notes, print_json, print_line
from app.commands.review.decisions import decision, ids_of, print_samples
from pawl.json_values import Json

dead_letters = typer.Typer(
    name="dead-letters",
    help="Labels that could not be learned: list them, try them again, or discard them.\n\n"
    "A label is dead when learning failed with it alone, again and again, and went well without it. "
    "Without a command: `list`.",
    invoke_without_command=True,
)
Ids = Annotated[list[str] | None, typer.Argument(help="Feedback ids.", metavar="[ID]...")]

_PATH = "/v1/dead-letters"
_HEADINGS = ("id", "task", "label", "source", "when", "text", "error")


@dead_letters.callback()
def listed_by_default(context: typer.Context) -> None:
    """Lists, where no command is given."""
    if context.invoked_subcommand is None:
        dead_letters_list()


@dead_letters.command("list")
def dead_letters_list(
    task: OnlyTask = None,
    source: OnlySource = None,
    label: OnlyLabel = None,
    limit: Limit = 50,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The newest ones, each with the error."""
    with service_at(url, home) as service:
        page = service.get(_PATH, limit=limit, **given(task=task, source=source, label=label))
    if as_json:
        print_json(page)
        return
    print_samples(page["items"], _HEADINGS)
    notes.print(f"dead letters: {page['count'] or 'none'}")
    if page["next"]:
        notes.print("there are more; narrow it with --source, --label or --task, or raise --limit")


@dead_letters.command("show")
def dead_letters_show(
    sample_id: Annotated[str, typer.Argument(help="Feedback id.", metavar="ID")],
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """One with all that is known of it."""
    with service_at(url, home) as service:
        sample = service.get(f"{_PATH}/{sample_id}")
    if as_json:
        print_json(sample)
        return
    for name, value in sample.items():
        if value is not None:
            print_line(f"{name:<15} {value}")


def _add_decision(action: str, help: str) -> None:
    """Adds the command that makes one decision."""

    @dead_letters.command(action, help=help)
    def decide(
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
        filters = given(task=task, source=source, label=label)
        decided: list[Json] = []
        refused: dict[str, str] = {}
        with service_at(url, home) as service:
            chosen = ids_of(service, _PATH, ids, filters, everything=everything)
            for sample_id in chosen:
                try:
                    decided.append(service.post(f"{_PATH}/{sample_id}", decision(action, reason, by)))
                except CommandFailed as error:
                    if len(chosen) == 1:
                        raise
                    refused[sample_id] = str(error)
        if as_json:
            print_json({"decided": decided, "refused": refused})
        else:
            for sample in decided:
                print_line(f"{sample['id']} {sample['state']}")
            for sample_id, problem in refused.items():
                notes.print(f"{sample_id}: {problem}", markup=False, soft_wrap=True)
            if not chosen:
                notes.print("nothing to decide about")
        if refused:
            raise typer.Exit(EXIT_PARTIAL)


_add_decision("redrive", "Queue them again, to be learned after all. Exit status 3 when some could not be.")
_add_decision("discard", "Reject them for good. Exit status 3 when some could not be.")

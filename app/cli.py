"""The `pawl` command line: which commands there are. Each lives in a folder of `app/commands`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from app.commands.console.help_words import Words
from app.commands.console.terminal import report
from app.commands.data.commands import export, import_
from app.commands.encoder.commands import encoder
from app.commands.labels.labels import labels
from app.commands.labels.tasks import demo, tasks
from app.commands.predictions.feedback import feedback
from app.commands.predictions.predict import predict
from app.commands.review.dead_letters import dead_letters
from app.commands.review.quarantine import quarantine
from app.commands.service.commands import doctor, migrate, serve, up, work
from app.commands.service.status import status
from app.commands.versions.consolidation import consolidate, tune
from app.commands.versions.promotion import promote
from app.commands.versions.versions import versions
from pawl.domain.errors import PawlError
from pawl.installed import pawl_version
from pawl.processes.logs import logs_to_stderr

cli = typer.Typer(
    name="pawl",
    cls=Words,
    help="Text classification that learns from its corrections and never slips back.\n\n"
    "Start with `pawl up`. Every setting is an environment variable PAWL_..., see the README.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for group in (labels, quarantine, dead_letters, tasks, demo, encoder, export):
    cli.add_typer(group)
cli.command("import")(import_)
for command in (predict, up, serve, work, migrate, feedback, status, versions, promote, consolidate, tune, doctor):
    cli.command()(command)


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"pawl {pawl_version()}")
        raise typer.Exit


@cli.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Shared by all commands."""


def main() -> None:
    """Entry point of the console script: errors of Pawl become a sentence and an exit code, not a traceback."""
    logs_to_stderr()  # stdout holds results alone, for scripts
    try:
        cli(prog_name="pawl")
    except PawlError as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()

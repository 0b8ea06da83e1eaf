"""The `pawl` command line."""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from app.commands.console.help_words import Words
from app.commands.console.options import AsJson, CreateTask, Home, Url, service_at, settings_with
from app.commands.console.terminal import EXIT_USAGE, CommandFailed, report
from app.commands.data import commands as data_commands
from app.commands.encoder import commands as encoder_commands
from app.commands.labels import label_group, task_group
from app.commands.predictions import commands as prediction_commands
from app.commands.review import dead_letter_group, quarantine_group
from pawl.domain.errors import PawlError
from pawl.domain.samples import DEFAULT_TASK
from pawl.installed import pawl_version
from pawl.processes.children import module_command
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
cli.add_typer(label_group.labels)
cli.add_typer(quarantine_group.quarantine)
cli.add_typer(dead_letter_group.dead_letters)
cli.add_typer(task_group.tasks)
cli.add_typer(task_group.demo)
cli.add_typer(encoder_commands.encoder)
cli.command("import")(data_commands.import_)
cli.add_typer(data_commands.export)
cli.command()(prediction_commands.predict)


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


@cli.command()
def up(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default: 8000.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of the HTTP service. Default: 1.")] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Leave an empty home empty.")] = False,
) -> None:
    """Start everything: database, Redis, HTTP service and learner. Ctrl-C stops it.

    An empty home learns a demo model first (support intents, headline topics and sentiments) unless --no-demo.
    """
    from app.commands.service.up import up as run

    run(settings_with(home=home, host=host, port=port, workers=workers), demo=not no_demo)


@cli.command()
def serve(
    workers: Annotated[int | None, typer.Option(help="Processes behind one socket. Default: 1.")] = None,
    handle: Annotated[int | None, typer.Option("--socket", hidden=True)] = None,
    member: Annotated[int, typer.Option(hidden=True)] = 1,
    metrics: Annotated[Path | None, typer.Option(hidden=True)] = None,
) -> None:
    """Run the HTTP service alone (settings from PAWL_...). It needs no torch.

    One process keeps two cores busy; more pay on machines with many, or in front of a GPU.
    """
    settings = settings_with(workers=workers)
    if settings.workers > 1 and handle is None:
        from app.commands.service.process_group import serve_group

        serve_group(settings)
        return
    # Before numpy is imported: OpenBLAS's own threads wait for each other where the encoder's keep the cores busy
    # (one text's answer from the head took 30 ms with them and 0.7 ms without, on a loaded machine).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from app.server import serve as run

    run(settings, handle, member, metrics)


@cli.command()
def work() -> None:
    """Run the learner alone (settings from PAWL_...). It waits for a database that is away, or newer than it."""
    from app.commands.encoder.encoder import ready_to_learn
    from app.commands.home.learner import require_worker
    from app.commands.service.migration import until_it_fits

    settings = settings_with()
    require_worker()
    asyncio.run(until_it_fits(partial(ready_to_learn, settings)))
    os.execv(sys.executable, module_command("worker"))  # noqa: S606 - becomes the learner, no shell


@cli.command()
def migrate(
    to: Annotated[
        str | None, typer.Option(help="Schema to go to, older ones included. Default: the newest.", metavar="REVISION")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    check: Annotated[
        bool, typer.Option("--check", help="As --dry-run, with exit status 1 where there is something to do.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Go back, and lose what only the newer schema holds.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Bring the database's schema up to date, or back; says from where to where.

    `up`, `serve` and `work` do it when they start; where they must not, run it before the new ones start. See
    docs/operations.md.
    """
    from app.commands.service.migration import run

    code = asyncio.run(run(settings_with(home=home), to, dry=dry_run, check=check, sure=yes, as_json=as_json))
    if code:
        raise typer.Exit(code)


@cli.command()
def feedback(
    label: Annotated[str, typer.Option(help="The right label; a new one makes a new class.")],
    prediction_id: Annotated[str | None, typer.Option("--id", help="Id of the prediction that was wrong.")] = None,
    text: Annotated[str | None, typer.Option(help="The text itself, instead of an id.")] = None,
    task: Annotated[str | None, typer.Option(help=f"With --text: the label set. Default: {DEFAULT_TASK}.")] = None,
    create_task: CreateTask = False,
    source: Annotated[str | None, typer.Option(help="Who says so.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it was learned and is served.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Send the right label of a text or of an earlier prediction."""
    from app.commands.predictions import ask

    if (prediction_id is None) == (text is None):
        raise CommandFailed("give either --id PREDICTION_ID or --text TEXT", code=EXIT_USAGE)
    item: dict[str, Any] = {
        "prediction_id": prediction_id,
        "text": text,
        "task": task,
        "source": source,
        "label": label,
    }
    item |= {"create_task": create_task or None}
    with service_at(url, home) as service:
        sent = {key: value for key, value in item.items() if value is not None}
        if code := ask.feedback(service, sent, wait=wait, as_json=as_json):
            raise typer.Exit(code)


@cli.command()
def status(as_json: AsJson = False, url: Url = None, home: Home = None) -> None:
    """What serves, what waits to be learned, how the learner is."""
    from app.commands.versions import show

    with service_at(url, home) as service:
        show.status(service, as_json=as_json)
        if not as_json:
            show.own_contradictions(settings_with(home=home), service)


@cli.command()
def versions(
    number: Annotated[int | None, typer.Argument(help="Show this one with its gate report.", metavar="N")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="How many to list.")] = 20,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """The lineage, newest first; with N one version: lineage, gate report, recall per class."""
    from app.commands.versions import show

    with service_at(url, home) as service:
        if number is None:
            show.versions(service, limit, as_json=as_json)
        else:
            show.version(service, number, as_json=as_json)


@cli.command()
def promote(
    number: Annotated[int, typer.Argument(help="The version whose model should serve.", metavar="N")],
    reason: Annotated[str | None, typer.Option(help="Why; kept in the lineage. Needed but for --dry-run.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what it would do.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask (a script is never asked).")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Show ids.")] = False,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Roll back to version N (or force a refused one). It becomes a new version; numbers only grow.

    Says what that takes away and what it brings back, by class, and asks on a terminal.
    """
    from app.commands.versions import promotion

    if reason is None and not dry_run:
        raise CommandFailed("give --reason, or --dry-run to see what it would do", code=EXIT_USAGE)
    with service_at(url, home) as service:
        promotion.promote(service, number, reason, dry_run=dry_run, yes=yes, verbose=verbose, as_json=as_json)


@cli.command()
def consolidate(
    wait: Annotated[bool, typer.Option("--wait", help="Return when its candidate was promoted or refused.")] = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Ask the learner to fine-tune the encoder on what it has learned."""
    from app.commands.predictions import ask

    with service_at(url, home) as service:
        ask.consolidate(service, wait=wait)


@cli.command()
def tune(
    trials: Annotated[int, typer.Option(min=1, help="Trainings to try at most.")] = 20,
    minutes: Annotated[float, typer.Option(min=0.0, help="Stop after so many minutes; 0: no limit.")] = 0.0,
    home: Home = None,
) -> None:
    """Search the consolidation's settings on your own samples and write the best to HOME/recommended.env.

    It needs 250 samples that the encoder was not trained on, and says at once where there are fewer.
    Learning rate, epochs, weight decay, L2-SP, FGM and, once an encoder was trained, replay and distillation.
    Each trial is a real training, judged on samples set aside for that, never on held-out or golden ones. Changes
    nothing by itself, and may run beside `pawl up`. Ctrl-C keeps what was found.
    """
    from app.commands.home.learner import require_worker

    settings = settings_with(home=home)
    require_worker()
    os.environ["PAWL_HOME"] = str(settings.home_path)
    search = module_command("worker.tune", "--trials", str(trials), "--minutes", str(minutes))
    os.execv(sys.executable, search)  # noqa: S606 - becomes the search, no shell


@cli.command()
def doctor(home: Home = None, url: Url = None, as_json: AsJson = False) -> None:
    """Check every part and say what to do. Exit status 1 when something does not work."""
    from app.commands.doctor.doctor import examine

    if not asyncio.run(examine(settings_with(home=home), url, as_json=as_json)):
        raise typer.Exit(1)


def main() -> None:
    """Entry point of the console script: errors of Pawl become a sentence and an exit code, not a traceback."""
    logs_to_stderr()
    try:
        cli(prog_name="pawl")
    except PawlError as error:
        sys.exit(report(error))


if __name__ == "__main__":
    main()

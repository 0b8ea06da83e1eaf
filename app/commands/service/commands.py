"""`pawl up`, `serve`, `work`, `migrate` and `doctor` as the command line shows them.

What they run is imported when they run: it needs libraries that the other commands do without.
"""

from __future__ import annotations

import asyncio
import os
import sys
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from app.commands.console.options import AsJson, Home, Url, settings_with
from pawl.processes.children import module_command


def up(
    home: Home = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on. Default: 127.0.0.1.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 takes a free one. Default: 8000.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes of the HTTP service. Default: 1.")] = None,
    encoder: Annotated[
        str | None,
        typer.Option(help="small, base, multilingual, none, a folder or a hub id; see `pawl encoder list`."),
    ] = None,
    no_demo: Annotated[bool, typer.Option("--no-demo", help="Leave an empty home empty.")] = False,
) -> None:
    """Start everything: database, Redis, HTTP service and learner. Ctrl-C stops it.

    An empty home learns a demo model first (support intents in English and Chinese, headline topics and sentiments)
    unless --no-demo.
    """
    from app.commands.service.up import up as run

    run(settings_with(home=home, host=host, port=port, workers=workers, encoder=encoder), demo=not no_demo)


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
    # With a handle it is one of the group's own children, whose environment may say PAWL_WORKERS too.
    if settings.workers > 1 and handle is None:
        from app.commands.service.process_group import serve_group

        serve_group(settings)
        return
    # Before numpy is imported: OpenBLAS's own threads wait for each other where the encoder's keep the cores busy
    # (one text's answer from the head took 30 ms with them and 0.7 ms without, on a loaded machine).
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from app.server import serve as run

    run(settings, handle, member, metrics)


def work() -> None:
    """Run the learner alone (settings from PAWL_...). It waits for a database that is away, or newer than it."""
    from app.commands.encoder.encoder import ready_to_learn
    from app.commands.home.learner import require_worker
    from app.commands.service.migration import until_it_fits

    settings = settings_with()
    require_worker()
    asyncio.run(until_it_fits(partial(ready_to_learn, settings)))
    os.execv(sys.executable, module_command("worker"))  # noqa: S606 - becomes the learner, no shell


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


def doctor(home: Home = None, url: Url = None, as_json: AsJson = False) -> None:
    """Check every part and say what to do. Exit status 1 when something does not work."""
    from app.commands.doctor.doctor import examine

    if not asyncio.run(examine(settings_with(home=home), url, as_json=as_json)):
        raise typer.Exit(1)

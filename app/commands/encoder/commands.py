"""`pawl encoder ...`: the commands as the command line shows them."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from app.commands.console.options import AsJson, Home, settings_with

encoder = typer.Typer(name="encoder", help="Which encoder serves, and another one instead.", no_args_is_help=True)


@encoder.command("show")
def encoder_show(as_json: AsJson = False, home: Home = None) -> None:
    """The encoder that serves, what it was made with, and what became of the last request for another one."""
    from app.commands.encoder.encoder import show

    asyncio.run(show(settings_with(home=home), as_json=as_json))


@encoder.command("list")
def encoder_list(as_json: AsJson = False) -> None:
    """The encoders that have a name, what they are for, and which of them this machine has already."""
    from app.commands.encoder.presets import list_presets

    list_presets(as_json=as_json)


@encoder.command("set")
def encoder_set(
    encoder_id: Annotated[
        str, typer.Argument(help="small, base, multilingual, none, a folder, or a hub id.", metavar="ENCODER")
    ],
    prefix: Annotated[str | None, typer.Option(help="Put before every text, as some encoders were trained.")] = None,
    reason: Annotated[str | None, typer.Option(help="Why; kept in the lineage.")] = None,
    accept: Annotated[
        str | None, typer.Option(metavar="REASON", help="Take it even if the gate finds it worse; kept in its report.")
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Return when it serves, or say why it does not.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Take another encoder: embed every sample anew, refit all heads, judge old against new, publish.

    The learner does it in the background; answers and corrections go on. Settings that are given (PAWL_MAX_TOKENS,
    PAWL_POOLED_LAYERS, PAWL_COMPRESSION, PAWL_RANDOM_FEATURES, PAWL_SEED) are taken with it; the others stay as they
    are.
    """
    from app.commands.encoder.encoder import set_encoder

    settings = settings_with(home=home)
    run = set_encoder(
        settings,
        encoder_id,
        prefix=prefix,
        reason=reason,
        accept=accept,
        wait=wait,
        dry_run=dry_run,
        as_json=as_json,
    )
    asyncio.run(run)

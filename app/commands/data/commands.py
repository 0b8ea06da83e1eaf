"""`pawl import` and other commands about files, as the command line shows them."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.commands.console.options import (
    AsJson,
    CreateTask,
    FileDelimiter,
    FileEncoding,
    FileFormat,
    FileSheet,
    Home,
    settings_with,
)
from pawl.domain.samples import DEFAULT_TASK


def import_(
    file: Annotated[
        Path, typer.Argument(help="CSV, TSV, Excel, Parquet or JSON lines; `-` is standard input.", metavar="FILE")
    ],
    task: Annotated[
        str | None, typer.Option(help=f"Label set the labels belong to. Default: {DEFAULT_TASK}, or the export's own.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the text, where it is not obvious.")] = None,
    label_column: Annotated[str | None, typer.Option(help="Column with the label, where it is not obvious.")] = None,
    golden: Annotated[bool, typer.Option("--golden", help="Never learn these; they judge every candidate.")] = False,
    pin: Annotated[bool, typer.Option("--pin", help="These must not break: a candidate that does is refused.")] = False,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad rows out, and write them to a file, instead of stopping.")
    ] = False,
    max_bad: Annotated[float, typer.Option(min=0, max=100, help="With --skip-bad: percent of bad rows at most.")] = 10,
    accept: Annotated[
        str | None, typer.Option(help="Learn them whatever the gate finds, also those it put into quarantine: why.")
    ] = None,
    create_task: CreateTask = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be imported and which encoder reads it; change nothing.")
    ] = False,
    seconds: Annotated[float | None, typer.Option("--timeout", min=0, help="Stop waiting after so long.")] = None,
    format: FileFormat = None,
    encoding: FileEncoding = None,
    delimiter: FileDelimiter = None,
    sheet: FileSheet = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Import labelled texts, all or none, and wait until they are learned and served.

    Works beside a running `pawl up` on the same home and without one. The same file twice learns nothing twice.
    Exit status: 0 all learned, 1 nothing was imported, 2 the file or an option cannot be used, 3 some rows were left
    out, refused or are not learned yet (the output says which and why).
    """
    # Here and not above: `pawl --help` and the other commands start without what files need.
    from app.commands.data.files.records import Reading
    from app.commands.data.importing import ImportRequest, import_file

    reading = Reading(format, encoding, delimiter, sheet)
    columns = (text_column, label_column)
    request = ImportRequest(
        file, task, *columns, golden, pin, skip_bad, max_bad, accept, create_task, dry_run, seconds, as_json, reading
    )
    if code := asyncio.run(import_file(settings_with(home=home), request)):
        raise typer.Exit(code)


export = typer.Typer(name="export", help="Write what Pawl knows to files.", no_args_is_help=True)


@export.callback()
def _export() -> None:
    """Holds the sub-commands together."""


@export.command("samples")
def export_samples(
    file: Annotated[Path, typer.Argument(help=".jsonl, .csv or .parquet; `-` is standard output.", metavar="FILE")],
    task: Annotated[list[str] | None, typer.Option(help="Only this label set; may be given again.")] = None,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="Only samples in this state; may be given again. Default: all that may count (learned, "
            "queued, quarantined, golden)."
        ),
    ] = None,
    since: Annotated[str | None, typer.Option(help="Only what came or changed since then, e.g. 2026-11-29.")] = None,
    format: Annotated[str | None, typer.Option(help="jsonl, csv or parquet. Default: by the name of the file.")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Write the samples with their labels, weights, sources, times and states.

    `pawl import` of the file into an empty home gives the same model again. JSON lines and Parquet hold texts exactly.
    In CSV a text that a spreadsheet would take for a formula (it begins with =, +, - or @) has an apostrophe in front,
    which `pawl import` takes away.
    """
    from app.commands.data import export as run

    request = run.ExportRequest(file, format, task, state, run.moment(since) if since else None, as_json)
    asyncio.run(run.export_samples(settings_with(home=home), request))

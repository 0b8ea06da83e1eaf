"""`pawl predict`, as the command line shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from app.commands.console.options import (
    AsJson,
    FileDelimiter,
    FileEncoding,
    FileFormat,
    FileSheet,
    Home,
    Task,
    Url,
    service_at,
    settings_with,
)
from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from pawl.domain.samples import DEFAULT_TASK


def predict(
    texts: Annotated[
        list[str] | None, typer.Argument(help="Texts; `-` reads them from standard input.", metavar="TEXT...")
    ] = None,
    file: Annotated[
        Path | None, typer.Option(help="Texts from a file: one a line (.txt), CSV, TSV, Excel, Parquet or JSON lines.")
    ] = None,
    text_column: Annotated[str | None, typer.Option(help="Column with the text, where it is not obvious.")] = None,
    task: Task = DEFAULT_TASK,
    top_k: Annotated[int, typer.Option(min=1, help="Labels to show for each text.")] = 1,
    format: FileFormat = None,
    encoding: FileEncoding = None,
    delimiter: FileDelimiter = None,
    sheet: FileSheet = None,
    as_json: AsJson = False,
    url: Url = None,
    home: Home = None,
) -> None:
    """Label texts with the running service. From a file: one line for each text, as the answers come.

    With --json a file gives JSON lines (line, text, version, label, score, ...), texts on the command line one object.
    Exit status 3: some rows of the file hold no text.
    """
    from app.commands.data.files.formats import STANDARD_INPUT
    from app.commands.data.files.records import Reading
    from app.commands.predictions import ask, bulk

    if file is None and texts == [str(STANDARD_INPUT)]:
        file, texts = STANDARD_INPUT, None
    if (file is None) == (not texts):
        raise CommandFailed("give either TEXT... or --file FILE", code=EXIT_USAGE)
    reading = Reading(format, encoding, delimiter, sheet)
    if file is None and (reading != Reading() or text_column is not None):
        options = "--format, --encoding, --delimiter, --sheet and --text-column"
        raise CommandFailed(f"{options} go with a file", code=EXIT_USAGE)
    with service_at(url, home) as service:
        if file is None:
            ask.predict(service, texts or [], task, top_k, as_json=as_json)
            return
        request = bulk.BulkRequest(file, text_column, reading, task, top_k, as_json)
        if code := bulk.predict_file(service, settings_with(home=home), request):
            raise typer.Exit(code)

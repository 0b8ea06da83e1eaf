"""`pawl predict`: texts labelled by the running service."""

from __future__ import annotations

from collections.abc import Sequence
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
from app.commands.console.terminal import EXIT_USAGE, CommandFailed, print_json, print_line
from pawl.domain.samples import DEFAULT_TASK
from pawl.json_values import Json

_SHOWN_CHARACTERS = 100


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
    from app.commands.predictions.bulk import BulkRequest, in_one, predict_file

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
            answer = in_one(service, texts or [], task, top_k)
            print_json(answer) if as_json else _print_answers(texts or [], answer)
            return
        request = BulkRequest(file, text_column, reading, task, top_k, as_json)
        if code := predict_file(service, settings_with(home=home), request):
            raise typer.Exit(code)


def _print_answers(texts: Sequence[str], answer: Json) -> None:
    """Each text with its labels, novelty, the heads that spoke, and prediction id."""
    for text, prediction in zip(texts, answer["predictions"], strict=True):
        shown = text if len(text) <= _SHOWN_CHARACTERS else text[: _SHOWN_CHARACTERS - 1] + "\u2026"
        scores = ", ".join(f"{each['label']} {each['score']:.3f}" for each in prediction["scores"])
        print_line(" ".join(shown.split()))
        how = f"novelty {prediction['novelty']:.2f}   by {prediction['by']}"
        print_line(f"  {scores}   {how}   {prediction['id'] or ''}".rstrip())
        for warning in prediction.get("warnings", ()):
            print_line(f"  warning: {warning}")
    print_line(f"version {answer['version']}")

"""`pawl predict` of many texts: cut into requests, answered in order, written as the answers come."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from app.commands.console.client import ServiceClient
from app.commands.console.terminal import EXIT_PARTIAL, CommandFailed, notes, progress_bar
from app.commands.data.files.columns import choose_text_column, known_columns
from app.commands.data.files.formats import STANDARD_INPUT_NAME, kind_of, opened, read_contents
from app.commands.data.files.records import Contents, Reading, Source
from app.commands.data.files.rows import as_text
from pawl.backoff import Backoff
from pawl.domain.forms import clean_text
from pawl.json_values import Json
from pawl.settings import Settings

MOST_TEXTS = 256
_MOST_BYTES = 2**20
_LONGEST_SHOWN = 200
_MOST_TRIES = 6
_TOO_MUCH = {413, 422}
_BUSY = {429, 503}


@dataclass(frozen=True, slots=True)
class Asked:
    """A text and the line it stands on."""

    line: int
    text: str


def batches(texts: Sequence[Asked] | Iterator[Asked], most: int = MOST_TEXTS) -> Iterator[list[Asked]]:
    """Cuts texts into batches of at most `most` texts and 1 MiB, as one request takes."""
    batch: list[Asked] = []
    size = 0
    for asked in texts:
        length = len(asked.text.encode())
        if batch and (len(batch) >= most or size + length > _MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(asked)
        size += length
    if batch:
        yield batch


def ask(service: ServiceClient, texts: Sequence[Asked], task: str, top_k: int) -> Iterator[tuple[Asked, int, Json]]:
    """Each text with the version that answered it and the answer. A busy service is asked again, a little later."""
    backoff = Backoff(first=0.5, longest=8.0)
    while True:
        body = {"texts": [asked.text for asked in texts], "task": task, "top_k": top_k}
        status, answer = service.try_post("/v1/predict", body, tolerated={*_TOO_MUCH, *_BUSY})
        if status < 400:
            for asked, prediction in zip(texts, answer["predictions"], strict=True):
                yield asked, answer["version"], prediction
            return
        if status in _TOO_MUCH and len(texts) > 1:  # its own limits are lower than the usual ones
            middle = len(texts) // 2
            yield from ask(service, texts[:middle], task, top_k)
            yield from ask(service, texts[middle:], task, top_k)
            return
        pause = backoff.next_pause()
        if status in _TOO_MUCH or backoff.failures == _MOST_TRIES:
            raise CommandFailed(answer["problem"])
        time.sleep(pause)


@dataclass(frozen=True, slots=True)
class BulkRequest:
    """Which texts are asked about, and how they are answered."""

    path: Path
    column: str | None
    reading: Reading
    task: str
    top_k: int
    as_json: bool


def predict_file(service: ServiceClient, settings: Settings, request: BulkRequest) -> int:
    """A line for each text: labels with their scores, the text, who answered, with tabs between; or JSON.

    Returns the exit code.
    """
    done = 0
    with opened(request.path) as source, progress_bar() as bar:
        contents = read_contents(source, _of_texts(source, request.reading), settings.max_body_bytes)
        notes.print(f"{source.name}: {contents.described}", markup=False, soft_wrap=True)
        step = bar.add_task("predicting", total=None)
        texts = _Texts(contents, request.column)
        for batch in batches(iter(texts)):
            for asked, version, prediction in ask(service, batch, request.task, request.top_k):
                _write(asked, version, prediction, as_json=request.as_json)
            sys.stdout.flush()
            done += len(batch)
            bar.update(step, completed=done)
        skipped = texts.skipped
    if skipped:
        notes.print(f"{skipped} rows hold no text that can be answered; they are left out", style="yellow")
    if not done:
        raise CommandFailed(f"{request.path} holds no texts")
    return EXIT_PARTIAL if skipped else 0


def _of_texts(source: Source, reading: Reading) -> Reading:
    """Standard input holds a text a line, unless it is JSON or its first line names columns."""
    if reading.format is not None or source.name != STANDARD_INPUT_NAME or kind_of(source) != "csv":
        return reading
    try:
        named = known_columns(read_contents(source, reading, 2**20).columns or [])
    except CommandFailed:
        named = False
    return reading if named or reading.delimiter is not None else replace(reading, format="txt")


class _Texts:
    """The texts of a file; rows without one are named and counted."""

    def __init__(self, contents: Contents, column: str | None) -> None:
        self.skipped = 0
        self._contents = contents
        self._column = column

    def __iter__(self) -> Iterator[Asked]:
        contents = self._contents
        column = choose_text_column(contents.columns, self._column) if contents.columns is not None else None
        for record in contents.records:
            problem = record.problem
            if record.fields is not None:
                column = column or choose_text_column(record.fields, self._column)
                try:
                    yield Asked(record.line, clean_text(as_text(record.fields.get(column)) or ""))
                except ValueError as error:
                    problem = str(error)
                else:
                    continue
            self.skipped += record.lines
            notes.print(f"line {record.line}: {problem}", markup=False, soft_wrap=True)


def _write(asked: Asked, version: int, prediction: Json, *, as_json: bool) -> None:
    if as_json:
        answer = {"line": asked.line, "text": asked.text, "version": version, **prediction}
        sys.stdout.write(json.dumps(answer, ensure_ascii=False) + "\n")
        return
    shown = " ".join(asked.text.split())
    if len(shown) > _LONGEST_SHOWN:
        shown = shown[: _LONGEST_SHOWN - 1] + "\u2026"
    scores = ", ".join(f"{each['label']} {each['score']:.3f}" for each in prediction["scores"])
    sys.stdout.write(f"{scores}\t{shown}\t{prediction['by']}\n")


def in_one(service: ServiceClient, texts: Sequence[str], task: str, top_k: int) -> Json:
    """The answers to any number of texts as one, all of one version."""
    asked = [Asked(number, text) for number, text in enumerate(texts, 1)]
    for _ in range(_MOST_TRIES):
        answers = [answer for batch in batches(asked) for answer in ask(service, batch, task, top_k)]
        versions = {version for _, version, _ in answers}
        if len(versions) == 1:  # else a version came between two requests
            return {"version": versions.pop(), "predictions": [prediction for _, _, prediction in answers]}
    raise CommandFailed("versions came faster than the texts could be answered", "Use --file or `predict -` for many.")

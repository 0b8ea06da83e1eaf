"""Labelled rows from a CSV or JSON-lines file, each checked before anything is stored."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from app.commands.terminal import EXIT_USAGE, CommandFailed
from app.core.domain.forms import cleaned
from app.core.domain.samples import NewSample

TEXT_COLUMNS = ("text", "sentence", "utterance", "message", "query", "content", "headline", "review", "question")
LABEL_COLUMNS = ("label", "category", "intent", "class", "sentiment", "topic", "target")


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row and the line it starts on."""

    line: int
    text: str
    label: str


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why."""

    line: int
    problem: str


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of the columns (CSV) or keys (JSON lines) that hold text and label."""

    text: str
    label: str


def read_rows(path: Path, text_column: str | None, label_column: str | None, max_bytes: int) -> Iterator[Row | BadRow]:
    """All rows in order; raises `CommandFailed` when the file as a whole cannot be used.

    `max_bytes` is the longest text, in UTF-8, that the service accepts.
    """
    readers = {".csv": _csv_records, ".jsonl": _json_records, ".ndjson": _json_records}
    if path.suffix.lower() not in readers:
        raise CommandFailed(f"{path} is neither .csv nor .jsonl", code=EXIT_USAGE)
    try:
        # Bytes that are not UTF-8 become lone surrogates, so that their row can be named instead of the whole file.
        with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            columns: Columns | None = None
            for line, record in readers[path.suffix.lower()](file, max_bytes):
                if isinstance(record, str):
                    yield BadRow(line, record)
                    continue
                columns = columns or choose_columns(record, text_column, label_column)
                yield _check(line, record, columns, max_bytes)
    except OSError as error:
        raise CommandFailed(f"cannot read {path}: {error.strerror}", code=EXIT_USAGE) from error


def choose_columns(found: Iterable[str], text: str | None, label: str | None) -> Columns:
    """The text and label columns: as told, else by well-known names, else by elimination in two columns.

    Raises `CommandFailed` naming the columns that are there.
    """
    names = list(found)
    listed = ", ".join(names)
    for told in filter(None, (text, label)):
        if told not in names:
            raise CommandFailed(f"there is no column {told!r}; the columns are: {listed}", code=EXIT_USAGE)
    text = text or _guess([n for n in names if n != label], TEXT_COLUMNS)
    label = label or _guess([n for n in names if n != text], LABEL_COLUMNS)
    if len(names) == 2 and (text is None) != (label is None):
        other = next(n for n in names if n not in {text, label})
        text, label = text or other, label or other
    if text is None or label is None or text == label:
        raise CommandFailed(
            f"cannot tell which columns hold the text and the label; the columns are: {listed}",
            "Name them with --text-column and --label-column.",
            code=EXIT_USAGE,
        )
    return Columns(text, label)


def _guess(names: list[str], known: tuple[str, ...]) -> str | None:
    """The first-choice name if it is there, else the only well-known one."""
    matching = [name for name in names if name.strip().lower() in known]
    exact = [name for name in matching if name.strip().lower() == known[0]]
    if len(exact) == 1:
        return exact[0]
    return matching[0] if len(matching) == 1 else None


def _check(line: int, record: dict[str, Any], columns: Columns, max_bytes: int) -> Row | BadRow:
    missing = [name for name in (columns.text, columns.label) if name not in record]
    if missing:
        return BadRow(line, f"there is no {missing[0]!r}")
    text, label = record[columns.text], record[columns.label]
    item, faults = cleaned(NewSample(text, label), 0, max_bytes)
    if faults:
        return BadRow(line, f"{faults[0].field}: {faults[0].problem}")
    return Row(line, item.text, item.label)


def _csv_records(file: TextIO, max_bytes: int) -> Iterator[tuple[int, dict[str, Any] | str]]:
    csv.field_size_limit(max(max_bytes, 2**17))
    reader = csv.reader(file, strict=True)
    header = next(reader, None)
    if not header:
        raise CommandFailed(f"{file.name} is empty; its first line must name the columns", code=EXIT_USAGE)
    if len(set(header)) != len(header):
        raise CommandFailed(f"{file.name} names a column twice: {', '.join(header)}", code=EXIT_USAGE)
    while True:
        line = reader.line_num + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, f"not valid CSV: {error}"
            continue
        if not fields:
            continue
        if len(fields) != len(header):
            yield line, f"{len(fields)} fields where the header has {len(header)}"
            continue
        yield line, dict(zip(header, fields, strict=True))


def _json_records(file: TextIO, max_bytes: int) -> Iterator[tuple[int, dict[str, Any] | str]]:
    for line, content in enumerate(file, start=1):
        if not content.strip():
            continue
        if len(content) > 2 * max_bytes:
            yield line, f"the line is longer than {2 * max_bytes} characters"
            continue
        try:
            record = json.loads(content)
        except (ValueError, RecursionError) as error:
            yield line, f"not valid JSON: {error}"
            continue
        yield line, record if isinstance(record, dict) else "not a JSON object"

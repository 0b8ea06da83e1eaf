"""Labelled rows from the records of a file, each in the form that a sample must have."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from app.commands.data.files.columns import Columns, choose_columns
from app.commands.data.files.exported import Attributes, is_export, read_attributes, unescaped
from app.commands.data.files.records import Contents, Record
from app.commands.data.files.sheets import Cell
from pawl.domain.forms import cleaned
from pawl.domain.samples import NewSample

_BROKEN = re.compile("[\udc80-\udcff]")
"""What became of bytes that are not UTF-8 where the rest of the file is."""


@dataclass(frozen=True, slots=True)
class Row:
    """A usable row and the line it starts on. `attributes` is what an export of Pawl says of it besides."""

    line: int
    text: str
    label: str
    attributes: Attributes | None = None
    raw: Any = None


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be used, and why. It takes up so many lines."""

    line: int
    problem: str
    raw: Any = None
    lines: int = 1


def read_rows(
    contents: Contents, text_column: str | None, label_column: str | None, max_bytes: int
) -> Iterator[Row | BadRow]:
    """All rows in order; raises `CommandFailed` when the file as a whole cannot be used.

    `max_bytes` is the longest text, in UTF-8, that the service accepts.
    """
    columns = choose_columns(contents.columns, text_column, label_column) if contents.columns is not None else None
    for record in contents.records:
        if record.fields is None:
            yield BadRow(record.line, record.problem, record.raw, record.lines)
            continue
        columns = columns or choose_columns(record.fields, text_column, label_column)
        yield _check(record, columns, max_bytes, escapes=contents.escapes)


def as_text(value: Any) -> str | None:
    """A value as text: itself, or the digits of a whole number. `None` for an empty cell.

    Raises `ValueError` saying what it is otherwise: what a date or a fraction was meant to say, nobody knows.
    """
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, Cell):
        raise ValueError(f"it is {value.what}")  # noqa: TRY004 - of the file, not of the program
    # Before `int`, of which `bool` is a subclass: True would become the text "1".
    if isinstance(value, bool):
        raise ValueError(f"it is a truth value ({value}), not text")  # noqa: TRY004 - of the file, not of the program
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, datetime | date | time):
        raise ValueError(f"it is a date or a time ({value}), not text; format the column as text")  # noqa: TRY004 - as above
    raise ValueError(f"it is {_kind(value)}, not text")


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return f"a number ({value})"
    names: dict[type, str] = {dict: "an object", list: "a list", bytes: "bytes"}
    return names.get(type(value), type(value).__name__)


def _check(record: Record, columns: Columns, max_bytes: int, *, escapes: bool) -> Row | BadRow:
    fields = record.fields or {}
    missing = [name for name in (columns.text, columns.label) if name not in fields]
    if missing:
        return BadRow(record.line, f"there is no {missing[0]!r}", record.raw)
    values: list[str] = []
    for what, name in (("text", columns.text), ("label", columns.label)):
        try:
            value = as_text(fields[name])
        except ValueError as error:
            return BadRow(record.line, f"{what}: {error}", record.raw)
        if value is None or not value.strip():
            return BadRow(record.line, f"{what}: it is empty", record.raw)
        if _BROKEN.search(value):
            return BadRow(record.line, f"{what}: it holds bytes that are not UTF-8", record.raw)
        values.append(value)
    text, label = values
    attributes = None
    if is_export(fields):
        try:
            attributes = read_attributes(fields)
        except ValueError as error:
            return BadRow(record.line, str(error), record.raw)
        if escapes:
            text, label = unescaped(text), unescaped(label)
    item, faults = cleaned(NewSample(text, label), 0, max_bytes)
    if faults:
        return BadRow(record.line, f"{faults[0].field}: {faults[0].problem}", record.raw, record.lines)
    return Row(record.line, item.text, item.label, attributes, record.raw)

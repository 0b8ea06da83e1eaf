"""What every reader gives: records in the order of the file, each with the place where it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

Fields = dict[str, Any]
LONGEST_NAME = 200


@dataclass(frozen=True, slots=True)
class Source:
    """A file that can be read from any place, and what to call it."""

    name: str
    file: BinaryIO


@dataclass(frozen=True, slots=True)
class Reading:
    """How a file is to be read; None leaves it to detection."""

    format: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    sheet: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """A record and the line (of a sheet: the row) it starts on.

    `fields` by column is None where the record cannot be read; `problem` says why then. `raw` is the record as it
    stands there, for the file of rejected rows. `lines` is how many lines it takes up.
    """

    line: int
    fields: Fields | None = None
    problem: str = ""
    raw: Any = None
    lines: int = 1


@dataclass(frozen=True, slots=True)
class Contents:
    """What a file turned out to be, in words, and its records."""

    described: str
    columns: list[str] | None
    """Names of the columns; None where each record has its own (JSON lines)."""
    records: Iterator[Record]
    escapes: bool = False
    """Whether texts in an export are kept from being taken for formulas."""

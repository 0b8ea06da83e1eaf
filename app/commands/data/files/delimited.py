"""Text with delimiters: commas, what Excel writes where the comma is the decimal point, tabs."""

from __future__ import annotations

import codecs
import csv
import io
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from app.commands.data.files.columns import known_columns
from app.commands.data.files.encodings import Encoding, detect, hint_for, named_encoding
from app.commands.data.files.records import Contents, Reading, Record, Source

DELIMITERS = (",", ";", "\t", "|")
NONE = "\x1f"
"""Of a file with one column, whose texts may hold any of the others."""
_NAMES = {NONE: "none", "\t": "tab", "\\t": "\t", "tab": "\t"}
_LOOKED_AT = 200
_TAB_FORMATS = {"tsv"}
_CHUNK = 2**20
# A file without line breaks must not be held in memory whole.
_LONGEST_LINE = 2**26


def read_delimited(source: Source, reading: Reading, format: str, max_bytes: int) -> Contents:
    """CSV or TSV, its delimiter and encoding found where they are not told."""
    encoding = named_encoding(reading.encoding) if reading.encoding else detect(source.file, source.name)
    # The module's own limit of 131,072 characters is below what a text may have. It holds for the whole process.
    csv.field_size_limit(max(max_bytes, 2**17))
    skipped, marked = _sep_line(source, encoding)
    delimiter = _told_delimiter(reading.delimiter) or marked
    if delimiter is None:
        delimiter = "\t" if format in _TAB_FORMATS else _detect_delimiter(source, encoding)
    lines = Lines(source, encoding, skipped)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header = _header(reader, source.name)
    shown = _NAMES.get(delimiter, repr(delimiter))
    described = f"{format.upper()}, delimiter {shown}, {encoding.name}"
    return Contents(described, header, _records(reader, lines, header), escapes=True)


class Lines:
    """The lines of a text file, and the last one read. Raises `CommandFailed` where it is not in the encoding."""

    def __init__(self, source: Source, encoding: Encoding, skipped: int = 0) -> None:
        self.number = 0
        self.last = ""
        self._source = source
        self._encoding = encoding
        self._text = self._read()
        for _ in range(skipped):
            next(self)

    def __iter__(self) -> Lines:
        return self

    def __next__(self) -> str:
        self.last = next(self._text)
        self.number += 1
        return self.last

    def _read(self) -> Iterator[str]:
        file = self._source.file
        file.seek(0)
        # Bytes that are not UTF-8 become lone surrogates, so that their row can be named instead of the whole file.
        errors = "surrogateescape" if self._encoding.damaged else "strict"
        decoder = codecs.getincrementaldecoder(self._encoding.codec)(errors)
        rest, more = "", True
        while more:
            chunk = file.read(_CHUNK)
            more = bool(chunk)
            try:
                text = rest + decoder.decode(chunk, final=not more)
            except UnicodeError as error:
                raise self._wrong(error) from error
            lines = list(io.StringIO(text, newline=""))
            # Also a line that ends with \r: its \n may be the first character of the next chunk.
            rest = lines.pop() if more and lines and not lines[-1].endswith("\n") else ""
            if len(rest) > _LONGEST_LINE:
                raise CommandFailed(f"line {self.number + len(lines) + 1} of {self._source.name} does not end")
            yield from lines

    def _wrong(self, error: UnicodeError) -> CommandFailed:
        before = error.object[: error.start] if isinstance(error, UnicodeDecodeError) else b""
        line = self.number + 1 + before.count(b"\n")
        problem = f"{self._source.name} is not {self._encoding.name} (about line {line})"
        return CommandFailed(problem + hint_for(self._source.file), code=EXIT_USAGE)


def _told_delimiter(option: str | None) -> str | None:
    if option is None:
        return None
    delimiter = _NAMES.get(option, option) if option != "\t" else option
    if len(delimiter) != 1 or delimiter in '"\r\n':
        raise CommandFailed(f"{option!r} cannot be a delimiter", "One character, or `tab`.", EXIT_USAGE)
    return delimiter


def _sep_line(source: Source, encoding: Encoding) -> tuple[int, str | None]:
    """How many lines to pass over, and the delimiter that a first line `sep=;` names, as Excel reads it."""
    first = next(Lines(source, encoding), "").rstrip("\r\n").strip('"')
    if first.lower().startswith("sep=") and len(first) == len("sep=") + 1:
        return 1, first[-1]
    return 0, None


def _detect_delimiter(source: Source, encoding: Encoding) -> str:
    """The one that gives most of the first rows as many fields as the header; known names of columns decide first."""
    sample = list(islice(Lines(source, encoding), _LOOKED_AT))

    def fitness(delimiter: str) -> tuple[bool, float, int]:
        rows: list[list[str]] = []
        with suppress(csv.Error):  # what was read until there says enough
            rows.extend(row for row in csv.reader(sample, delimiter=delimiter) if row)
        width = len(rows[0]) if rows else 0
        if width < 2:
            return False, 0.0, 0
        same = sum(len(row) == width for row in rows) / len(rows)
        # Compared in this order; of equals `max` takes the first of `DELIMITERS`.
        return known_columns(rows[0]), same, width

    best = max(DELIMITERS, key=fitness)
    return best if fitness(best)[2] else NONE


def _header(reader: Iterator[list[str]], name: str) -> list[str]:
    try:
        header = next(reader, None)
    except csv.Error as error:
        raise CommandFailed(f"the first line of {name} cannot be read: {error}", code=EXIT_USAGE) from None
    header = [column.strip() for column in header or []]
    while header and not header[-1]:
        header.pop()  # Excel ends lines with the delimiters of empty columns
    if not header:
        raise CommandFailed(f"{name} is empty; its first line must name the columns", code=EXIT_USAGE)
    twice = [column for column, times in Counter(header).items() if times > 1]
    if twice:
        raise CommandFailed(f"{name} names a column twice: {', '.join(map(repr, twice))}", code=EXIT_USAGE)
    return header


def _records(reader: Iterator[list[str]], lines: Lines, header: list[str]) -> Iterator[Record]:
    while True:
        line = lines.number + 1
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield _broken(line, lines, str(error))
            continue
        while len(fields) > len(header) and not fields[-1]:
            fields.pop()
        if not fields or fields == [""]:
            continue
        many = lines.number - line + 1
        if len(fields) != len(header):
            problem = f"{len(fields)} fields where the header has {len(header)}"
            yield Record(line, None, problem, fields, many)
            continue
        yield Record(line, dict(zip(header, fields, strict=True)), raw=fields, lines=many)


def _broken(line: int, lines: Lines, error: str) -> Record:
    many = lines.number - line + 1
    if "unexpected end of data" in error:
        problem = f"a quote opens here and is never closed: the file ends inside it, at line {lines.number}"
    elif many > 1:
        problem = f"not valid CSV: {error}; a quote that opened here swallowed the lines up to {lines.number}"
    else:
        problem = f"not valid CSV: {error}"
    return Record(line, None, problem, lines.last.rstrip("\r\n"), many)

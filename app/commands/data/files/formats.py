"""What kind of file it is: as told, by its first bytes, by its name."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from app.commands.data.files.delimited import Lines, read_delimited
from app.commands.data.files.encodings import detect, named_encoding
from app.commands.data.files.json_lines import read_json_lines
from app.commands.data.files.parquet import read_parquet
from app.commands.data.files.records import LONGEST_NAME, Contents, Reading, Record, Source
from app.commands.data.files.sheets import read_sheet

STANDARD_INPUT = Path("-")
STANDARD_INPUT_NAME = "standard input"
FORMATS = ("csv", "tsv", "jsonl", "xlsx", "parquet", "txt")
_SUFFIXES = {".ndjson": "jsonl", ".xlsm": "xlsx", ".tab": "tsv", ".pq": "parquet"}
_OTHERS = (
    (b"\xd0\xcf\x11\xe0", "an old or a protected Excel file", "Save it as .xlsx without a password, or as CSV."),
    (b"\x1f\x8b", "compressed (gzip)", "Unpack it, or: zcat FILE | pawl import -"),
    (b"(\xb5\x2f\xfd", "compressed (zstd)", "Unpack it first."),
    (b"BZh", "compressed (bzip2)", "Unpack it first."),
    (b"%PDF", "a PDF", "Save the table as CSV."),
    (b"SQLite format 3", "an SQLite database", "Write the table to CSV."),
)


@contextmanager
def opened(path: Path) -> Iterator[Source]:
    """The file; what comes from standard input is kept in a temporary file until the end."""
    with ExitStack() as stack:
        try:
            if path == STANDARD_INPUT:
                # Format, encoding and delimiter are found by reading, then the rows are read from the beginning: a pipe
                # cannot.
                file: BinaryIO = stack.enter_context(tempfile.TemporaryFile(prefix="pawl-"))
                shutil.copyfileobj(sys.stdin.buffer, file)
                name = STANDARD_INPUT_NAME
            else:
                file, name = stack.enter_context(path.open("rb")), path.name[:LONGEST_NAME]
        except OSError as error:
            raise CommandFailed(f"cannot read {path}: {error.strerror or error}", code=EXIT_USAGE) from error
        yield Source(name, file)


def read_contents(source: Source, reading: Reading, max_bytes: int) -> Contents:
    """The records of a file. Raises `CommandFailed` where the file as a whole cannot be used.

    `max_bytes` is the longest text that the service accepts.
    """
    kind = reading.format or kind_of(source)
    if kind not in FORMATS:
        raise CommandFailed(f"there is no format {kind!r}; there are: {', '.join(FORMATS)}", code=EXIT_USAGE)
    _check_options(kind, reading)
    if kind == "jsonl":
        return read_json_lines(source, reading, max_bytes)
    if kind == "xlsx":
        return read_sheet(source, reading)
    if kind == "parquet":
        return read_parquet(source)
    if kind == "txt":
        return _plain_lines(source, reading)
    return read_delimited(source, reading, kind, max_bytes)


def kind_of(source: Source) -> str:
    """By the first bytes where they are unmistakable, else by the name; from standard input JSON or CSV."""
    head = _head(source.file)
    if not head:
        raise CommandFailed(f"{source.name} is empty", code=EXIT_USAGE)
    for magic, what, advice in _OTHERS:
        if head.startswith(magic):
            raise CommandFailed(f"{source.name} is {what}", advice, EXIT_USAGE)
    if head.startswith(b"PK\x03\x04"):
        return "xlsx"  # or another archive: `read_sheet` says so
    if head.startswith(b"PAR1"):
        return "parquet"
    suffix = Path(source.name).suffix.lower()
    named = _SUFFIXES.get(suffix, suffix.removeprefix("."))
    if named in FORMATS:
        return named
    looks_like_json = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}
    if looks_like_json or suffix == ".json":
        return "jsonl"
    if suffix and source.name != STANDARD_INPUT_NAME:
        raise CommandFailed(
            f"{source.name}: what {suffix} files are is not known",
            f"Say what it is with --format ({', '.join(FORMATS)}).",
            EXIT_USAGE,
        )
    return "csv"


def _check_options(kind: str, reading: Reading) -> None:
    """An option that does not go with the format would be ignored: it is refused."""
    wrong = {
        "--delimiter": reading.delimiter is not None and kind not in {"csv", "tsv"},
        "--encoding": reading.encoding is not None and kind in {"xlsx", "parquet"},
        "--sheet": reading.sheet is not None and kind != "xlsx",
    }
    for option, is_wrong in wrong.items():
        if is_wrong:
            raise CommandFailed(f"{option} does not go with {kind}", code=EXIT_USAGE)


def _head(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read(4096)


def _plain_lines(source: Source, reading: Reading) -> Contents:
    """Each line is a text."""
    encoding = named_encoding(reading.encoding) if reading.encoding else detect(source.file, source.name)

    def records() -> Iterator[Record]:
        lines = Lines(source, encoding)
        for line in lines:
            text = line.rstrip("\r\n")
            if text.strip():
                yield Record(lines.number, {"text": text}, raw=text)

    return Contents(f"one text a line, {encoding.name}", ["text"], records())

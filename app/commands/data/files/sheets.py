"""Excel workbooks (.xlsx), read row by row. Formulas count as the values that Excel kept for them."""

from __future__ import annotations

import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat, zip_longest
from typing import Any
from xml.etree.ElementTree import ParseError

from app.commands.console.terminal import EXIT_USAGE, CommandFailed
from app.commands.data.files.extras import need
from app.commands.data.files.records import Contents, Reading, Record, Source

_MOST_UNPACKED = 2**30
_MOST_EXPANSION = 200
_ALWAYS_FINE = 2**26
DAMAGE = (
    *(zipfile.BadZipFile, zlib.error, ParseError, KeyError, ValueError, TypeError, AttributeError, IndexError),
    *(EOFError, NotImplementedError, RuntimeError, OSError),
)
"""What openpyxl and zipfile raise for a file that is not what it says."""


class Cell:
    """A value that is neither text nor number, with what it is."""

    def __init__(self, what: str) -> None:
        self.what = what


@dataclass(frozen=True, slots=True)
class Marks:
    """What occurs in a workbook."""

    formulas: bool = False
    merged: bool = False


def read_sheet(source: Source, reading: Reading) -> Contents:
    """The rows of one sheet; the first that is not empty unless one is named."""
    need("openpyxl", "Excel workbooks")
    marks = _check_archive(source)
    try:
        name, others, rows = _open(source, reading.sheet, marks)
        header = next(rows, None)
    except DAMAGE as error:
        raise CommandFailed(
            f"{source.name} is damaged or no Excel workbook: {_words(error)}", code=EXIT_USAGE
        ) from error
    if header is None:
        raise CommandFailed(f"the sheet {name!r} of {source.name} is empty; its first row must name the columns")
    cells = header[1]
    columns = ["" if cell is None else _plain(cell) for cell in cells]
    while columns and not columns[-1]:
        columns.pop()
    twice = [column for column, times in Counter(columns).items() if times > 1]
    if twice:
        raise CommandFailed(f"the sheet {name!r} names a column twice: {', '.join(map(repr, twice))}", code=EXIT_USAGE)
    described = f"Excel workbook, sheet {name!r}" + (f" (others: {', '.join(map(repr, others))})" if others else "")
    if marks.merged:
        described += "; it has merged cells, of which only the first holds a value"
    return Contents(described, columns, _records(rows, columns, source.name), escapes=True)


def _check_archive(source: Source) -> Marks:
    """Refuses what is no archive, and one that would unpack to far more than it is."""
    try:
        with zipfile.ZipFile(source.file) as archive:
            members = archive.infolist()
            # As the archive declares them; zipfile reads no more of a member than it declares.
            unpacked, packed = (
                sum(member.file_size for member in members),
                sum(member.compress_size for member in members),
            )
            bomb = unpacked > _MOST_UNPACKED or unpacked > _ALWAYS_FINE + _MOST_EXPANSION * packed
            marks = Marks() if bomb else _marks(archive)
    except DAMAGE as error:
        problem = f"{source.name} is damaged or no Excel workbook: {_words(error)}"
        raise CommandFailed(problem, code=EXIT_USAGE) from error
    if bomb:
        raise CommandFailed(
            f"{source.name} would unpack from {packed:,} to {unpacked:,} bytes; it is not read",
            "If it is what it says, save it as CSV.",
        )
    names = {member.filename for member in members}
    if "xl/workbook.xml" not in names:
        what = "an OpenDocument file" if "content.xml" in names else "an archive of something else"
        raise CommandFailed(f"{source.name} is {what}, not an Excel workbook", "Save it as .xlsx or CSV.", EXIT_USAGE)
    return marks


def _open(source: Source, wanted: str | None, marks: Marks) -> tuple[str, list[str], Iterator[tuple[int, list[Any]]]]:
    """Name of the sheet, names of the others that hold something, and the rows that are not empty."""
    from openpyxl import load_workbook

    source.file.seek(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of styles and extensions that do not matter here
        # openpyxl gives kept values or formulas, not both. Only where there are formulas is the file read twice, to
        # tell a formula without a kept value from an empty cell.
        values = load_workbook(source.file, read_only=True, data_only=True)
        formulas = load_workbook(source.file, read_only=True, data_only=False) if marks.formulas else None
    names = [sheet.title for sheet in values.worksheets]
    if wanted is not None and wanted not in names:
        raise CommandFailed(f"there is no sheet {wanted!r}; there are: {', '.join(map(repr, names))}", code=EXIT_USAGE)
    full = [name for name in names if next(_rows(values[name], formulas and formulas[name]), None) is not None]
    chosen = wanted or next(iter(full), names[0] if names else "")
    if not names:
        raise CommandFailed(f"{source.name} holds no sheet", code=EXIT_USAGE)
    return chosen, [name for name in full if name != chosen], _rows(values[chosen], formulas and formulas[chosen])


def _rows(values: Any, formulas: Any) -> Iterator[tuple[int, list[Any]]]:
    values.reset_dimensions()  # what a file says of its own size may be wrong
    written: Iterator[Any] = repeat(())
    if formulas is not None:
        formulas.reset_dimensions()
        written = formulas.iter_rows()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for line, (row, source) in enumerate(zip(values.iter_rows(), written, strict=False), start=1):
            cells = [_value(cell, formula) for cell, formula in zip_longest(row, source)]
            if any(cell is not None for cell in cells):
                yield line, cells


def _marks(archive: zipfile.ZipFile) -> Marks:
    """Looks through the sheets, a piece at a time."""
    formulas = merged = False
    for name in archive.namelist():
        if not name.startswith("xl/worksheets/sheet"):
            continue
        with archive.open(name) as sheet:
            before = b""
            while piece := sheet.read(2**20):
                formulas = formulas or b"<f>" in before + piece or b"<f " in before + piece
                merged = merged or b"<mergeCell" in before + piece
                before = piece[-16:]  # a tag may lie across two pieces
    return Marks(formulas, merged)


def _value(cell: Any, written: Any) -> Any:
    if cell.value is None and written is not None and written.data_type == "f":
        return Cell(f"a formula without a kept value ({written.value}); open the file in Excel and save it")
    if cell.data_type == "e":
        return Cell(f"the error {cell.value}")
    return cell.value


def _records(rows: Iterator[tuple[int, list[Any]]], columns: list[str], name: str) -> Iterator[Record]:
    while True:
        try:
            row = next(rows, None)
        except DAMAGE as error:
            raise CommandFailed(f"{name} is damaged: {_words(error)}") from error
        if row is None:
            return
        line, cells = row
        cells += [None] * (len(columns) - len(cells))
        raw = [_plain(cell) if cell is not None else None for cell in cells]
        beyond = [_plain(cell) for cell in cells[len(columns) :] if cell is not None]
        if beyond:
            problem = f"there is {beyond[0]!r} in a column without a name"
            yield Record(line, None, problem, raw)
            continue
        fields = {column: cell for column, cell in zip(columns, cells, strict=False) if column}
        yield Record(line, fields, raw=raw)


def _plain(value: Any) -> str:
    return value.what if isinstance(value, Cell) else str(value).strip()


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:200]

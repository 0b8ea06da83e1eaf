"""`pawl export samples`: what Pawl knows, as a file that others read and `pawl import` takes back."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from app.commands.console.terminal import EXIT_USAGE, CommandFailed, notes, print_json, progress_bar
from app.commands.data.files.exported import COLUMNS, LEAVING, escaped
from app.commands.data.files.extras import need
from app.commands.data.files.formats import STANDARD_INPUT
from app.commands.home.stores import HomeStores, open_stores
from pawl.classifier.stacking import Stacking
from pawl.classifier.tensors import read_tensors
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.imports import ExportedCentre, ExportedHeads
from pawl.domain.manifest import FEATURES_FILE
from pawl.domain.samples import ACTIVE_STATES, Sample, SampleFilter, SampleState
from pawl.files import atomic_file
from pawl.settings import Settings

FORMATS = ("jsonl", "csv", "parquet")
_SUFFIXES = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv", ".parquet": "parquet", ".pq": "parquet"}
_TEXTS = ("text", "label", "source", "reason")


@dataclass(frozen=True, slots=True)
class ExportRequest:
    """What to write and where; `-` is standard output."""

    path: Path
    format: str | None = None
    tasks: Sequence[str] | None = None
    states: Sequence[str] | None = None
    since: datetime | None = None
    as_json: bool = False


class Writer(Protocol):
    """Writes rows in one format."""

    def __init__(self, file: BinaryIO) -> None: ...

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Writes some rows."""

    def end(self) -> None:
        """Finishes the file; called once, after the last rows."""


async def export_samples(settings: Settings, request: ExportRequest) -> None:
    """Writes all samples that match, as of one moment. The file appears only when it is complete."""
    format = _format(request)
    where = SampleFilter(request.tasks, _states(request.states), request.since)
    counts: Counter[str] = Counter()
    async with open_stores(settings) as stores:
        chosen = await _chosen_of(stores)
        total = await stores.samples.count(where)  # for the bar; the rows are of the moment in which `stream` begins
        with _target(request.path) as file, progress_bar() as bar:
            step = bar.add_task("exporting", total=total)
            writer = _writer(format, file)
            async for page in stores.samples.stream(where):
                writer.write([_row(sample, chosen) for sample in page])
                counts.update(sample.state.value for sample in page)
                bar.advance(step, len(page))
            writer.end()
    _tell(request, format, counts)


def _format(request: ExportRequest) -> str:
    if request.format is not None and request.format not in FORMATS:
        raise CommandFailed(f"exports are {', '.join(FORMATS)}, not {request.format!r}", code=EXIT_USAGE)
    if request.format is not None or request.path == STANDARD_INPUT:
        return request.format or "jsonl"
    format = _SUFFIXES.get(request.path.suffix.lower())
    if format is None:
        raise CommandFailed(
            f"{request.path}: exports are {', '.join(FORMATS)}", "Name it so, or say --format.", EXIT_USAGE
        )
    return format


def _states(names: Sequence[str] | None) -> tuple[SampleState, ...]:
    if not names:
        return ACTIVE_STATES
    known = [state.value for state in SampleState]
    wrong = [name for name in names if name not in known]
    if wrong:
        raise CommandFailed(f"there is no state {wrong[0]!r}; there are: {', '.join(known)}", code=EXIT_USAGE)
    return tuple(SampleState(name) for name in names)


@contextmanager
def _target(path: Path) -> Iterator[BinaryIO]:
    """Standard output, or the file at `path`, which is there when all is written."""
    if path == STANDARD_INPUT:
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    try:
        with atomic_file(path, mode=0o600) as file:  # texts of clients
            yield file
    except OSError as error:
        place = path if os.access(path.parent, os.W_OK) else f"into {path.parent}"
        raise CommandFailed(f"cannot write {place}: {error.strerror or error}") from error


def _row(sample: Sample, chosen: _Chosen) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(sample, name) for name in COLUMNS if hasattr(sample, name)}
    values |= {
        "state": sample.state.value,
        "origin": sample.origin.value,
        "quarantined_by": sample.quarantined_by.value if sample.quarantined_by else None,
        "created_at": sample.created_at.isoformat(),
        "updated_at": sample.updated_at.isoformat(),
        # Into every row, whatever becomes of the others: an import into an empty home takes it over and gives the same
        # model.
        "encoder": chosen.encoder,
        "heads": chosen.heads_for(sample),
    }
    return {name: values[name] for name in COLUMNS}


class _Chosen:
    """What the live version says in the rows of an export.

    Args:
        encoder: its digest; None before there is a version.
        heads: what was chosen, by task.
    """

    def __init__(self, encoder: str | None = None, heads: Mapping[str, ExportedHeads] | None = None) -> None:
        self.encoder = encoder
        self._heads = dict(heads or {})

    def heads_for(self, sample: Sample) -> str | None:
        """What was chosen for the heads of a sample's task, as JSON; None where nothing is known of them.

        With the centre for the first sample of the task that an import takes.
        """
        heads = self._heads.get(sample.task)
        if heads is None:
            return None
        without = replace(heads, centre=None)
        if sample.state in LEAVING:
            return json.dumps(without.to_json())
        self._heads[sample.task] = without
        return json.dumps(heads.to_json())


async def _chosen_of(stores: HomeStores) -> _Chosen:
    """What the live version says; no centre, which is told, where its files cannot be read: the samples still can."""
    live = await stores.ledger.live()
    if live is None:
        return _Chosen()
    # The path, not `open`: whether all files of a version are whole is not asked for the sake of one.
    file = stores.artefacts.path(live.number) / FEATURES_FILE
    centre = None
    try:
        tensors = await asyncio.to_thread(read_tensors, file, {"projection": 2, "centre": 1})
        centre = ExportedCentre(live.encoder_digest, tuple(tensors["centre"].tolist()))
    except ArtefactCorrupt as error:
        notes.print(
            f"warning: {error}; a model made of this export centres its features anew", markup=False, soft_wrap=True
        )
    heads = {}
    for task, lambdas in live.metrics.get("regularisation", {}).items():
        if info := live.heads.get(task):
            stacking = Stacking.from_info(info.lexical)
            shares = (stacking.words, stacking.semantic, stacking.lexical)
            heads[task] = ExportedHeads(lambdas, *shares, info.temperature, centre)
    return _Chosen(live.encoder_digest, heads)


def _writer(format: str, file: BinaryIO) -> Writer:
    writers: dict[str, type[Writer]] = {"jsonl": _JsonLines, "csv": _Csv, "parquet": _Parquet}
    return writers[format](file)


class _JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())

    def end(self) -> None:
        pass


class _Csv:
    """CSV with the byte order mark by which Excel knows UTF-8; formulas are escaped."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._put([COLUMNS], "utf-8-sig")  # the mark only here: in later rows it would be a character

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._put([[self._cell(name, row[name]) for name in COLUMNS] for row in rows], "utf-8")

    def end(self) -> None:
        pass

    @staticmethod
    def _cell(name: str, value: Any) -> Any:
        return escaped(value) if name in _TEXTS and value is not None else value

    def _put(self, rows: Sequence[Sequence[Any]], encoding: str) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._file.write(text.getvalue().encode(encoding))


class _Parquet:
    def __init__(self, file: BinaryIO) -> None:
        need("pyarrow", "Parquet files")
        import pyarrow as pa
        from pyarrow.parquet import ParquetWriter

        numbers = dict.fromkeys(("weight", "emphasis"), pa.float64())
        types = numbers | {"pinned": pa.bool_(), "learned_in_version": pa.int64()}
        # Given, not inferred: a column that is empty in the first page would get the type `null`, and later rows not
        # fit.
        self._schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
        self._writer = ParquetWriter(file, self._schema)
        self._table = pa.Table

    def write(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._writer.write_table(self._table.from_pylist(list(rows), schema=self._schema))

    def end(self) -> None:
        self._writer.close()


def _tell(request: ExportRequest, format: str, counts: Mapping[str, int]) -> None:
    total = sum(counts.values())
    if request.as_json and request.path != STANDARD_INPUT:
        print_json({"file": str(request.path), "format": format, "samples": total, "states": dict(counts)})
        return
    states = ", ".join(f"{state} {count}" for state, count in sorted(counts.items()))
    what = f"{total} samples" + (f" ({states})" if states else "")
    notes.print(f"exported {what} to {request.path}", markup=False, soft_wrap=True)


def moment(value: str) -> datetime:
    """A date or a moment as people write it; without a zone it is UTC."""
    try:
        when = datetime.fromisoformat(value)
    except ValueError:
        raise CommandFailed(
            f"{value!r} is no date", "For example 2026-11-29 or 2026-11-29T12:00.", EXIT_USAGE
        ) from None
    return when if when.tzinfo else when.replace(tzinfo=UTC)

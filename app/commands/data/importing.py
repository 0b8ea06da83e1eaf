"""`pawl import`: labelled rows from a file into SQL, all or none, learned and served before the command returns.

The rows of one command are one transaction. It ends when each of them is in a final state, whoever brought it there.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from app.commands.console.terminal import EXIT_PARTIAL, EXIT_USAGE, CommandFailed, notes, progress_bar
from app.commands.data.files.formats import opened, read_contents
from app.commands.data.files.records import Reading
from app.commands.data.files.rows import BadRow, Row, read_rows
from app.commands.data.outcome import RowOutcomes, StoredRows, Summary, tell
from app.commands.data.plan import tell_plan
from app.commands.data.reading import Measured, measure, reader_of_home
from app.commands.data.rejected import stop_or_write
from app.commands.encoder.encoder import check_settings
from app.commands.home.learner import AwaitedSamples, learn_all, wait_until_served
from app.commands.home.stores import HomeStores, announce, open_stores
from pawl.domain.errors import ItemsRefused
from pawl.domain.forms import clean_task
from pawl.domain.identifiers import IMPORT_PREFIX, new_identifier
from pawl.domain.imports import ExportedHeads, NewImport
from pawl.domain.samples import DEFAULT_TASK, NewSample, Origin, Receipt, SampleState, digest_text
from pawl.settings import Settings

_SAMPLE_ID = re.compile(r"\bfb_\w+")
_SHOWN_WARNINGS = 20


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to read and how to store it. `task` is None where the file may say it."""

    path: Path
    task: str | None = None
    text_column: str | None = None
    label_column: str | None = None
    golden: bool = False
    pinned: bool = False
    skip_bad: bool = False
    max_bad: float = 10.0
    accept: str | None = None
    create_task: bool = False
    dry_run: bool = False
    seconds: float | None = None
    as_json: bool = False
    reading: Reading = field(default_factory=Reading)


async def import_file(settings: Settings, request: ImportRequest) -> int:
    """Stores every row that is not known yet, waits until all is learned and served, and prints a summary.

    Returns the exit code: `EXIT_PARTIAL` where some rows were not learned. Raises `CommandFailed` naming the lines of
    bad rows (nothing is stored then) unless `skip_bad`.
    """
    try:
        clean_task(request.task or DEFAULT_TASK)
    except ValueError as error:
        raise CommandFailed(f"--task {request.task!r}: {error}", code=EXIT_USAGE) from None
    if request.accept is not None and not request.accept.strip():
        raise CommandFailed("--accept needs a reason, which is kept", code=EXIT_USAGE)
    name, rows, bad = _read(settings, request)
    async with open_stores(settings, migrate=True) as stores:
        await check_settings(settings, stores)
        # Asked without storing, so that all bad rows are named together with those of the file; `accept` asks again in
        # its transaction.
        refused = await _refused(stores, [_item(request, name, row) for row in rows], rows)
        bad = sorted([*bad, *refused], key=lambda row: row.line)
        lines = {row.line for row in refused}
        rows = [row for row in rows if row.line not in lines]
        rejected = stop_or_write(bad, len(rows), request.path, skip=request.skip_bad, most=request.max_bad)
        kept = _latest(request, rows)
        accept = request.accept or await _restored(stores, kept)
        items, imports = _together([_item(request, name, row) for row in kept], kept, name, accept)
        if request.dry_run:
            measured = await _measured(settings, stores, items)
            tell_plan(name, items, len(bad), measured, as_json=request.as_json)
            return 0
        receipts = await _accept(stores, items, imports)
        # After the commit, so that a learner finds the rows of the ids it is given.
        await announce(
            settings, [receipt.id for receipt in receipts if receipt.is_new and receipt.state is SampleState.QUEUED]
        )
        stored = StoredRows(name, imports, len(rows), items, receipts)
        try:
            waiting = await _learn(settings, stores, request, receipts, imports)
        except asyncio.CancelledError:
            notes.print("interrupted; the rows are stored, and will be learned by the next learner")
            raise
        outcomes = await RowOutcomes.read(stores, stored)
        await _tell_encoder(stores, kept)
        measured = await _measured(settings, stores, items)
        live = await stores.ledger.live()
        version = live.number if live is not None and not request.golden else None
        served = version is not None and await wait_until_served(settings, version)
        summary = Summary(stored, outcomes, len(bad), rejected, waiting, version, served, measured)
        await tell(stores, summary, as_json=request.as_json)
        return EXIT_PARTIAL if summary.is_partial else 0


def _read(settings: Settings, request: ImportRequest) -> tuple[str, list[Row], list[BadRow]]:
    good: list[Row] = []
    bad: list[BadRow] = []
    with opened(request.path) as source:
        contents = read_contents(source, request.reading, settings.max_body_bytes)
        notes.print(f"{source.name}: {contents.described}", markup=False, soft_wrap=True)
        for row in read_rows(contents, request.text_column, request.label_column, settings.max_body_bytes):
            if isinstance(row, BadRow):
                bad.append(row)
            else:
                good.append(row)
            if len(good) > settings.max_queued:  # while reading, so that memory is bounded as well
                raise CommandFailed(
                    f"{source.name} holds more than {settings.max_queued} rows; nothing was imported",
                    "Cut it into several files, or raise PAWL_MAX_QUEUED.",
                )
    exported = [row for row in good if row.attributes is not None]
    if exported:
        notes.print("an export of Pawl: task, state and weight of each row are taken from it")
    removed = {row.line for row in exported if row.attributes and row.attributes.is_gone}
    if removed:
        notes.print(f"{len(removed)} rows had left the model where it was exported; they are left out")
    return source.name, [row for row in good if row.line not in removed], bad


async def _refused(stores: HomeStores, items: Sequence[NewSample], rows: Sequence[Row]) -> list[BadRow]:
    """Returns the rows that the store does not take, because their label was retired.

    Raises `CommandFailed` where it is the task that is not there.
    """
    # Reversed: of several faults of a row the first one stays.
    faults = {fault.index: fault for fault in reversed((await stores.samples.examine(items)).faults)}
    if task := next((fault.problem for fault in faults.values() if fault.field == "task"), None):
        # not a fault of any row: the command line names the task, once for all of them
        raise CommandFailed(task.replace("say `create_task`", "add --create-task"), "Nothing was imported.")
    return [BadRow(rows[at].line, f"{fault.field}: {fault.problem}", rows[at].raw) for at, fault in faults.items()]


def _latest(request: ImportRequest, rows: Sequence[Row]) -> list[Row]:
    """Returns one row for each text of a task: the last one. In an export no text occurs twice."""
    # Two labels of one text in one transaction have no order in time; here the file's order says which is newer.
    latest = {(_task(request, row), digest_text(row.text)): row for row in rows if row.attributes is None}
    return [row for row in rows if row.attributes is not None] or list(latest.values())


def _together(
    items: Sequence[NewSample], rows: Sequence[Row], name: str, accept: str | None
) -> tuple[list[NewSample], list[NewImport]]:
    """Makes one import for each task, with what an export says of its heads."""
    count = Counter(item.task for item in items)
    said: dict[str, ExportedHeads] = {}
    for item, row in zip(items, rows, strict=True):
        heads = None if row.attributes is None else row.attributes.heads
        if heads is not None and (item.task not in said or heads.centre is not None):
            said[item.task] = heads
    imports = {
        task: NewImport(new_identifier(IMPORT_PREFIX), task, name, n, accept, said.get(task))
        for task, n in count.items()
    }
    return [replace(item, import_id=imports[item.task].id) for item in items], list(imports.values())


def _item(request: ImportRequest, name: str, row: Row) -> NewSample:
    said = row.attributes
    item = NewSample(
        text=row.text,
        label=row.label,
        task=_task(request, row),
        source=name,
        origin=Origin.IMPORT,
        golden=request.golden,
        pinned=request.pinned,
        create_task=request.create_task or said is not None,
    )
    if said is None:
        return item
    return replace(
        item,
        weight=said.weight,
        emphasis=said.emphasis,
        origin=said.origin,
        source=said.source,
        golden=request.golden or said.state is SampleState.GOLDEN,
        pinned=request.pinned or said.pinned,
        hold=said.hold,
    )


def _task(request: ImportRequest, row: Row) -> str:
    if request.task is not None:
        return request.task
    return row.attributes.task if row.attributes is not None else DEFAULT_TASK


async def _restored(stores: HomeStores, rows: Sequence[Row]) -> str | None:
    """Returns why the gate need not judge rows of an export where nothing is learned yet; None where it must."""
    exported = rows and rows[0].attributes is not None
    return "restored from an export" if exported and await stores.ledger.live() is None else None


async def _measured(settings: Settings, stores: HomeStores, items: Sequence[NewSample]) -> Measured:
    """Returns how much of the texts is read, and which encoder would read more."""
    rows = [(item.task, item.text, item.label) for item in items]
    return await asyncio.to_thread(measure, await reader_of_home(settings, stores), rows)


async def _tell_encoder(stores: HomeStores, rows: Sequence[Row]) -> None:
    """Warns where the model of an export had another encoder than the one that serves here."""
    live = await stores.ledger.live()
    theirs = rows[0].attributes.encoder if rows and rows[0].attributes else None
    if live is not None and theirs is not None and theirs != live.encoder_digest:
        notes.print(
            "warning: the export's model had another encoder, so the answers here are not the same",
            style="yellow",
            soft_wrap=True,
        )


async def _accept(stores: HomeStores, items: Sequence[NewSample], imports: Sequence[NewImport]) -> list[Receipt]:
    """Stores all items or none, in one transaction."""
    with progress_bar() as bar:
        bar.add_task(f"storing {len(items)} rows", total=None)
        try:
            receipts = await stores.samples.accept(items, imports=imports)
        except ItemsRefused as error:  # what was decided about a label while the file was read
            raise CommandFailed(f"{error}; nothing was imported", "Run the same command again.") from error
    _tell_warnings(receipts)
    return receipts


def _tell_warnings(receipts: Sequence[Receipt]) -> None:
    """Prints each kind of warning once, with the number of rows it concerns."""
    kinds = Counter(_SAMPLE_ID.sub("a sample", warning) for receipt in receipts for warning in receipt.warnings)
    for warning, count in kinds.most_common(_SHOWN_WARNINGS):
        notes.print(f"warning: {warning} ({count} rows)", style="yellow", markup=False, soft_wrap=True)
    if len(kinds) > _SHOWN_WARNINGS:
        notes.print(f"... and {len(kinds) - _SHOWN_WARNINGS} other warnings")


async def _learn(
    settings: Settings,
    stores: HomeStores,
    request: ImportRequest,
    receipts: Sequence[Receipt],
    imports: Sequence[NewImport],
) -> str | None:
    """Waits for the rows of this file, also for those that an interrupted import of it left queued."""
    # They belong to the import of the command that was interrupted, so they are waited for by their ids.
    known = [entry.id for entry in receipts if not entry.is_new and entry.state is SampleState.QUEUED]
    awaited = AwaitedSamples([entry.id for entry in imports], known)
    queued = await awaited.left(stores)
    if not queued:
        return None
    with progress_bar() as bar:
        step = bar.add_task("learning", total=queued)
        return await learn_all(
            settings, stores, awaited, lambda left: bar.update(step, completed=queued - left), request.seconds
        )

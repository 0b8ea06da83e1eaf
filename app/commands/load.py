"""`pawl import`: labelled rows from a file into SQL, learned and served before the command returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.commands.learning import learn_up_to, wait_until_served
from app.commands.rows import BadRow, Row, read_rows
from app.commands.stores import Stores, announce, open_stores
from app.commands.terminal import EXIT_USAGE, CommandFailed, notes, print_line, progress_bar
from app.core.domain.forms import clean_task
from app.core.domain.samples import NewSample, Origin, Receipt, SampleState, digest_text
from app.core.settings import Settings

CHUNK = 1000
_SHOWN_BAD_ROWS = 20


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """What to read and how to store it."""

    path: Path
    task: str
    text_column: str | None = None
    label_column: str | None = None
    golden: bool = False
    pinned: bool = False
    skip_bad: bool = False
    create_task: bool = False


async def import_file(settings: Settings, request: ImportRequest) -> None:
    """Stores every row that is not known yet, waits until all is learned and served, prints a summary.

    Raises `CommandFailed` naming the lines of bad rows (nothing is stored then) unless `skip_bad`.
    """
    try:
        clean_task(request.task)
    except ValueError as error:
        raise CommandFailed(f"--task {request.task!r}: {error}", code=EXIT_USAGE) from None
    rows = _rows(settings, request)
    latest = {digest_text(row.text): row for row in rows}  # of two lines with one text the later one is right
    async with open_stores(settings, migrate=True) as stores:
        receipts = await _accept(settings, stores, request, list(latest.values()))
        fresh = sum(receipt.is_new for receipt in receipts)
        summary = f"{request.path.name}: {len(rows)} rows, {fresh} new, {len(receipts) - fresh} already known"
        if len(rows) > len(latest):
            summary += f", {len(rows) - len(latest)} replaced by a later row with the same text"
        print_line(summary)
        if request.golden:
            print_line("golden samples are never learned; from now on they judge every candidate")
            return
        if not fresh:
            print_line("nothing new to learn")
        await _learn(settings, stores, receipts)
        await _tell_labels(stores, request.task)


def _rows(settings: Settings, request: ImportRequest) -> list[Row]:
    good: list[Row] = []
    bad: list[BadRow] = []
    found = read_rows(request.path, request.text_column, request.label_column, settings.max_body_bytes)
    for row in found:
        if isinstance(row, BadRow):
            bad.append(row)
        else:
            good.append(row)
    for fault in bad[:_SHOWN_BAD_ROWS]:
        notes.print(f"line {fault.line}: {fault.problem}", markup=False, soft_wrap=True)
    if len(bad) > _SHOWN_BAD_ROWS:
        notes.print(f"... and {len(bad) - _SHOWN_BAD_ROWS} more")
    if bad and not request.skip_bad:
        raise CommandFailed(
            f"{len(bad)} of {len(bad) + len(good)} rows in {request.path} are not usable; nothing was imported",
            "Correct them, or leave them out with --skip-bad.",
        )
    if bad:
        notes.print(f"skipped {len(bad)} rows", style="yellow")
    if not good:
        raise CommandFailed(f"{request.path} holds no usable rows")
    return good


async def _accept(settings: Settings, stores: Stores, request: ImportRequest, rows: Sequence[Row]) -> list[Receipt]:
    receipts: list[Receipt] = []
    with progress_bar() as bar:
        step = bar.add_task("storing", total=len(rows))
        for start in range(0, len(rows), CHUNK):
            items = [
                NewSample(
                    text=row.text,
                    label=row.label,
                    task=request.task,
                    source=request.path.name[:200],
                    origin=Origin.IMPORT,
                    golden=request.golden,
                    pinned=request.pinned,
                    create_task=request.create_task,
                )
                for row in rows[start : start + CHUNK]
            ]
            receipts += await stores.samples.accept(items)
            bar.advance(step, len(items))
    if not request.golden:
        await announce(settings, [receipt.id for receipt in receipts if receipt.is_new])
    return receipts


async def _learn(settings: Settings, stores: Stores, receipts: Sequence[Receipt]) -> None:
    """Waits for what this file brought, also what an interrupted import of it left queued."""
    waiting = [r.id for r in receipts if r.state is SampleState.QUEUED]
    live = await stores.ledger.live()
    if waiting:
        last = max((sample.seq for sample in await stores.samples.get_many(waiting)), default=0)
        queued = (await stores.samples.backlog()).length
        if live is None and not await stores.samples.makes_first_version(settings.bootstrap_samples):
            print_line(
                f"stored, but not learned yet: a first version needs {settings.bootstrap_samples} samples "
                f"and two labels in one task; {queued} wait"
            )
            return
        with progress_bar() as bar:
            step = bar.add_task("learning", total=queued)
            await learn_up_to(settings, stores, last, lambda left: bar.update(step, completed=queued - left))
        live = await stores.ledger.live()
    if live is None:
        raise CommandFailed("the learner made no version of these samples", "See `pawl doctor`.")
    served = await wait_until_served(settings, live.number)
    print_line(f"version {live.number} {'is served' if served else 'is live; start it with `pawl up`'}")


async def _tell_labels(stores: Stores, task: str) -> None:
    counts = await stores.samples.label_counts(task)
    shown = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{label} {count}" for label, count in shown[:10]) + (", ..." if len(shown) > 10 else "")
    if shown:
        print_line(f"task {task}: {sum(counts.values())} texts, {len(shown)} labels ({listed})")

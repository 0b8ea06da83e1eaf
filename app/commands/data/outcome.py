"""What became of an import, row by row: in words, as JSON, and as an exit code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from app.commands.console.terminal import notes, print_json, print_line
from app.commands.home.stores import HomeStores
from pawl.domain.imports import ImportOutcome, NewImport
from pawl.domain.reading import ReadingTotals
from pawl.domain.samples import NewSample, Receipt, SampleState

_SHOWN_LABELS = 10
_SHOWN_WARNINGS = 20
_ID = re.compile(r"\bfb_[0-9a-f]+\b")
_SHOWN_OUTCOMES = 50


@dataclass(slots=True)
class Summary:
    """What an import brought and what came of it.

    `waiting` is why rows are still queued, where some are; `kept` are those of an export that stay in quarantine.
    `reading` is how much of the texts the encoder reads, `unread` what is to be said of that.
    """

    name: str
    imports: Sequence[NewImport]
    rows: int
    items: Sequence[NewSample]
    receipts: Sequence[Receipt]
    skipped: int
    rejected: Path | None
    waiting: str | None = None
    version: int | None = None
    served: bool = False
    learned: int = 0
    replaced: int = 0
    kept: int = 0
    not_learned: list[ImportOutcome] = field(default_factory=list)
    reading: ReadingTotals | None = None
    unread: Sequence[str] = ()

    @property
    def new(self) -> int:
        """Number of rows that were not known."""
        return sum(receipt.is_new for receipt in self.receipts)

    @property
    def changed(self) -> int:
        """Number of texts that had another label until now."""
        return sum(receipt.replaces is not None for receipt in self.receipts)

    @property
    def golden(self) -> int:
        """Number of golden rows, which are never learned."""
        return sum(receipt.state is SampleState.GOLDEN for receipt in self.receipts)

    @property
    def warnings(self) -> Counter[str]:
        """Warnings, each with its number of rows; warnings that differ only by a sample's id count as one."""
        return Counter(_ID.sub("the sample", warning) for receipt in self.receipts for warning in receipt.warnings)

    @property
    def is_partial(self) -> bool:
        """Whether something in the file was not learned."""
        return bool(self.not_learned or self.skipped or self.waiting)

    async def look(self, stores: HomeStores) -> None:
        """Reads what became of the rows."""
        counts = _grouped(await stores.samples.outcomes([entry.id for entry in self.imports]))
        known = [entry.id for entry in self.receipts if not entry.is_new and entry.state is not SampleState.GOLDEN]
        mine = {entry.id for entry in self.imports}
        for sample in await stores.samples.get_many(known):
            if sample.import_id not in mine:
                replaced = sample.replaced_by is not None
                reason = None if replaced else sample.reason
                counts[sample.task, sample.label, sample.state, reason, replaced] += 1
        for item, receipt in zip(self.items, self.receipts, strict=True):
            if item.hold is not None and receipt.is_new:
                counts[item.task, receipt.label or item.label, receipt.state, item.hold.reason, False] -= 1
                self.kept += 1
        left = {group: count for group, count in counts.items() if count > 0}
        self.learned = sum(count for group, count in left.items() if group[2] is SampleState.LEARNED)
        self.replaced = sum(count for group, count in left.items() if group[4])
        fine = {SampleState.LEARNED, SampleState.GOLDEN}
        bad = {group: n for group, n in left.items() if group[2] not in fine and not group[4]}
        self.not_learned = [ImportOutcome(*group, n) for group, n in sorted(bad.items(), key=lambda pair: -pair[1])]

    def as_json(self) -> dict[str, Any]:
        """Returns the summary as JSON values."""
        known = [entry for entry in self.receipts if not entry.is_new]
        return {
            "file": self.name,
            "imports": [{"id": entry.id, "task": entry.task, "rows": entry.rows} for entry in self.imports],
            "rows": self.rows,
            "new": self.new,
            "known": len(known),
            "changed": self.changed,
            "golden": self.golden,
            "learned": self.learned,
            "replaced": self.replaced + self.rows - len(self.receipts),
            "kept_in_quarantine": self.kept,
            "not_learned": [
                {"task": o.task, "label": o.label, "state": o.state.value, "reason": o.reason, "count": o.count}
                for o in self.not_learned
            ],
            "warnings": [{"warning": text, "count": count} for text, count in self.warnings.most_common()],
            "skipped": self.skipped,
            "rejected_rows": str(self.rejected) if self.rejected else None,
            "waiting": self.waiting,
            "reading": self.reading.to_json() if self.reading else None,
            "unread": list(self.unread),
            "version": self.version,
            "served": self.served,
        }


async def tell(stores: HomeStores, summary: Summary, *, as_json: bool) -> None:
    """Prints the summary."""
    if as_json:
        print_json(summary.as_json())
        return
    known = len(summary.receipts) - summary.new
    line = f"{summary.name}: {summary.rows} rows, {summary.new} new, {known} already known"
    if summary.changed:
        line += f", {summary.changed} with another label than before"
    if summary.rows > len(summary.receipts):
        line += f", {summary.rows - len(summary.receipts)} replaced by a later row with the same text"
    print_line(line)
    for warning in summary.unread:
        print_line(warning)
    if summary.golden:
        print_line(f"{summary.golden} golden samples are never learned; from now on they judge every candidate")
    if summary.kept:
        print_line(f"{summary.kept} stay in quarantine, as in the export")
    _tell_outcome(summary)
    _tell_warnings(summary)
    if summary.version is not None:
        where = "is served" if summary.served else "is live; start it with `pawl up`"
        print_line(f"version {summary.version} {where}")
    for task in dict.fromkeys(entry.task for entry in summary.imports):
        await _tell_labels(stores, task)


def _tell_warnings(summary: Summary) -> None:
    warnings = summary.warnings
    for warning, count in warnings.most_common(_SHOWN_WARNINGS):
        rows = "1 row" if count == 1 else f"{count} rows"
        notes.print(f"warning, {rows}: {warning}", markup=False, soft_wrap=True)
    if len(warnings) > _SHOWN_WARNINGS:
        notes.print(f"... and {len(warnings) - _SHOWN_WARNINGS} more warnings; see --json")


def _tell_outcome(summary: Summary) -> None:
    if summary.waiting:
        print_line(f"stored, but not learned yet: {summary.waiting}")
    elif not summary.new and not summary.not_learned:
        print_line("nothing new to learn")
    refused = sum(outcome.count for outcome in summary.not_learned)
    if not refused:
        return
    print_line(f"{summary.learned} learned, {refused} not:")
    for outcome in summary.not_learned[:_SHOWN_OUTCOMES]:
        print_line(
            f"  {outcome.label}: {outcome.count} {outcome.state.value}"
            + (f": {outcome.reason}" if outcome.reason else "")
        )
    if len(summary.not_learned) > _SHOWN_OUTCOMES:
        print_line(f"  ... and {len(summary.not_learned) - _SHOWN_OUTCOMES} more lines like these; see --json")
    if any(outcome.state is SampleState.QUARANTINED for outcome in summary.not_learned):
        print_line("review them with `pawl quarantine`, or learn them whatever was found: pawl import --accept REASON")


async def _tell_labels(stores: HomeStores, task: str) -> None:
    counts = await stores.samples.label_counts(task)
    shown = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{label} {count}" for label, count in shown[:_SHOWN_LABELS])
    if shown:
        more = ", ..." if len(shown) > _SHOWN_LABELS else ""
        print_line(f"task {task}: {sum(counts.values())} texts, {len(shown)} labels ({listed}{more})")


def _grouped(outcomes: Sequence[ImportOutcome]) -> Counter[tuple[str, str, SampleState, str | None, bool]]:
    counts: Counter[tuple[str, str, SampleState, str | None, bool]] = Counter()
    for outcome in outcomes:
        counts[outcome.task, outcome.label, outcome.state, outcome.reason, outcome.replaced] += outcome.count
    return counts

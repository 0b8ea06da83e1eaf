"""What became of an import, row by row: in words, as JSON, and as an exit code."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from app.commands.console.terminal import notes, print_json, print_line
from app.commands.data.reading import Measured
from app.commands.home.stores import HomeStores
from pawl.domain.imports import ImportOutcome, NewImport
from pawl.domain.samples import NewSample, Receipt, SampleState
from pawl.json_values import Json

_SHOWN_LABELS = 10
_SHOWN_WARNINGS = 20
_ID = re.compile(r"\bfb_[0-9a-f]+\b")
_SHOWN_OUTCOMES = 50


@dataclass(frozen=True, slots=True)
class StoredRows:
    """The rows of a file as the store took them: `items` and their `receipts`, in the order of the file.

    `rows` counts the usable rows of the file: of rows with one text only the last one is stored.
    """

    name: str
    imports: Sequence[NewImport]
    rows: int
    items: Sequence[NewSample]
    receipts: Sequence[Receipt]

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


@dataclass(frozen=True, slots=True)
class RowOutcomes:
    """What became of the rows: how many were learned, replaced by a newer label, or stay in quarantine as exported."""

    learned: int
    replaced: int
    kept: int
    not_learned: list[ImportOutcome]

    @classmethod
    async def read(cls, stores: HomeStores, stored: StoredRows) -> RowOutcomes:
        """Reads it from SQL, for rows of this file and for those that were known before."""
        counts: Counter[tuple[str, str, SampleState, str | None, bool]] = Counter()
        mine = {each.id for each in stored.imports}
        for outcome in await stores.samples.outcomes(list(mine)):
            counts[outcome.task, outcome.label, outcome.state, outcome.reason, outcome.replaced] += outcome.count
        known = [
            receipt.id for receipt in stored.receipts if not receipt.is_new and receipt.state is not SampleState.GOLDEN
        ]
        for sample in await stores.samples.get_many(known):
            if sample.import_id not in mine:  # those of this import are counted above
                replaced = sample.replaced_by is not None
                reason = None if replaced else sample.reason
                counts[sample.task, sample.label, sample.state, reason, replaced] += 1
        kept = 0
        for item, receipt in zip(stored.items, stored.receipts, strict=True):
            if item.hold is not None and receipt.is_new:
                # Counted above as an outcome; they were quarantined where they were exported, so here nothing was
                # refused.
                counts[item.task, receipt.label or item.label, receipt.state, item.hold.reason, False] -= 1
                kept += 1
        groups = [ImportOutcome(*group, count) for group, count in counts.most_common() if count > 0]
        fine = {SampleState.LEARNED, SampleState.GOLDEN}
        return cls(
            learned=sum(group.count for group in groups if group.state is SampleState.LEARNED),
            replaced=sum(group.count for group in groups if group.replaced),
            kept=kept,
            not_learned=[group for group in groups if group.state not in fine and not group.replaced],
        )


@dataclass(frozen=True, slots=True)
class Summary:
    """What an import brought and what came of it.

    `waiting` is why rows are still queued, where some are. `measured` is how much of the texts is read.
    """

    stored: StoredRows
    outcomes: RowOutcomes
    skipped: int
    rejected: Path | None = None
    waiting: str | None = None
    version: int | None = None
    served: bool = False
    measured: Measured | None = None

    @property
    def is_partial(self) -> bool:
        """Whether something in the file was not learned."""
        return bool(self.outcomes.not_learned or self.skipped or self.waiting)

    def as_json(self) -> Json:
        """Returns the summary as JSON values."""
        stored, outcomes = self.stored, self.outcomes
        return {
            "file": stored.name,
            "imports": [{"id": each.id, "task": each.task, "rows": each.rows} for each in stored.imports],
            "rows": stored.rows,
            "new": stored.new,
            "known": len(stored.receipts) - stored.new,
            "changed": stored.changed,
            "golden": stored.golden,
            "learned": outcomes.learned,
            # By a newer label in the store, and by a later row of the same file.
            "replaced": outcomes.replaced + stored.rows - len(stored.receipts),
            "kept_in_quarantine": outcomes.kept,
            "not_learned": [
                {"task": o.task, "label": o.label, "state": o.state.value, "reason": o.reason, "count": o.count}
                for o in outcomes.not_learned
            ],
            "warnings": [{"warning": text, "count": count} for text, count in stored.warnings.most_common()],
            "skipped": self.skipped,
            "rejected_rows": str(self.rejected) if self.rejected else None,
            "waiting": self.waiting,
            **(self.measured.as_json() if self.measured else {}),
            "version": self.version,
            "served": self.served,
        }


async def tell(stores: HomeStores, summary: Summary, *, as_json: bool) -> None:
    """Prints the summary."""
    if as_json:
        print_json(summary.as_json())
        return
    stored, known = summary.stored, len(summary.stored.receipts) - summary.stored.new
    line = f"{stored.name}: {stored.rows} rows, {stored.new} new, {known} already known"
    if stored.changed:
        line += f", {stored.changed} with another label than before"
    if stored.rows > len(stored.receipts):
        line += f", {stored.rows - len(stored.receipts)} replaced by a later row with the same text"
    print_line(line)
    for sentence in summary.measured.sentences if summary.measured else ():
        print_line(sentence)
    if stored.golden:
        print_line(f"{stored.golden} golden samples are never learned; from now on they judge every candidate")
    if summary.outcomes.kept:
        print_line(f"{summary.outcomes.kept} stay in quarantine, as in the export")
    _tell_outcome(summary)
    _tell_warnings(stored.warnings)
    if summary.version is not None:
        where = "is served" if summary.served else "is live; start it with `pawl up`"
        print_line(f"version {summary.version} {where}")
    for task in dict.fromkeys(entry.task for entry in stored.imports):
        await _tell_labels(stores, task)


def _tell_warnings(warnings: Counter[str]) -> None:
    for warning, count in warnings.most_common(_SHOWN_WARNINGS):
        rows = "1 row" if count == 1 else f"{count} rows"
        notes.print(f"warning, {rows}: {warning}", markup=False, soft_wrap=True)
    if len(warnings) > _SHOWN_WARNINGS:
        notes.print(f"... and {len(warnings) - _SHOWN_WARNINGS} more warnings; see --json")


def _tell_outcome(summary: Summary) -> None:
    not_learned = summary.outcomes.not_learned
    if summary.waiting:
        print_line(f"stored, but not learned yet: {summary.waiting}")
    elif not summary.stored.new and not not_learned:
        print_line("nothing new to learn")
    refused = sum(outcome.count for outcome in not_learned)
    if not refused:
        return
    print_line(f"{summary.outcomes.learned} learned, {refused} not:")
    for outcome in not_learned[:_SHOWN_OUTCOMES]:
        print_line(
            f"  {outcome.label}: {outcome.count} {outcome.state.value}"
            + (f": {outcome.reason}" if outcome.reason else "")
        )
    if len(not_learned) > _SHOWN_OUTCOMES:
        print_line(f"  ... and {len(not_learned) - _SHOWN_OUTCOMES} more lines like these; see --json")
    if any(outcome.state is SampleState.QUARANTINED for outcome in not_learned):
        print_line("review them with `pawl quarantine`, or learn them whatever was found: pawl import --accept REASON")


async def _tell_labels(stores: HomeStores, task: str) -> None:
    counts = await stores.samples.label_counts(task)
    shown = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    listed = ", ".join(f"{label} {count}" for label, count in shown[:_SHOWN_LABELS])
    if shown:
        more = ", ..." if len(shown) > _SHOWN_LABELS else ""
        print_line(f"task {task}: {sum(counts.values())} texts, {len(shown)} labels ({listed}{more})")

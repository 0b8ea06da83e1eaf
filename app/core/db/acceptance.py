"""Which submitted items are new samples: the one rule that the SQL store and its in-memory twin share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

from app.core.domain.identifiers import SAMPLE_PREFIX, new_identifier
from app.core.domain.samples import NewSample, Receipt, SampleState, Split, digest_text, split_of


@dataclass(slots=True)
class Standing:
    """An active sample of a text, as far as acceptance cares. `leaving`: its retraction was requested."""

    id: str
    task: str
    text_digest: str
    label: str
    state: SampleState
    leaving: bool
    superseded: bool


@dataclass(slots=True)
class Arrival:
    """An item that becomes a new sample."""

    standing: Standing
    item: NewSample
    split: Split


@dataclass(slots=True)
class Acceptance:
    """What one call of `accept` does: a receipt per item, the rows to add, the ids to mark as superseded."""

    receipts: list[Receipt] = field(default_factory=list)
    arrivals: list[Arrival] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)


def plan_acceptance(items: Sequence[NewSample], active: Iterable[Standing], heldout_fraction: float) -> Acceptance:
    """Decides item by item, as if each had been sent alone.

    `active` holds the active samples of these texts in the order of arrival. An item is a repeat when the newest
    sample of its text that stays has its label. Otherwise it is new, and an older sample of the same label, which
    another label or a requested retraction is about to remove, leaves the uniqueness to it.
    """
    texts: defaultdict[tuple[str, str], list[Standing]] = defaultdict(list)
    for row in active:
        texts[row.task, row.text_digest].append(row)
    plan = Acceptance()
    added: set[str] = set()
    for item in items:
        text_digest = digest_text(item.text)
        rows = texts[item.task, text_digest]
        newest = next((row for row in reversed(rows) if not row.leaving), None)
        if newest is not None and newest.label == item.label:
            plan.receipts.append(Receipt(newest.id, newest.state, is_new=False))
            continue
        for row in rows:
            if row.label == item.label and not row.superseded:
                row.superseded = True
                if row.id not in added:
                    plan.superseded.append(row.id)
        state = SampleState.GOLDEN if item.golden else SampleState.QUEUED
        split = Split.GOLDEN if item.golden else split_of(text_digest, heldout_fraction)
        new = Standing(new_identifier(SAMPLE_PREFIX), item.task, text_digest, item.label, state, False, False)
        rows.append(new)
        added.add(new.id)
        plan.arrivals.append(Arrival(new, item, split))
        plan.receipts.append(Receipt(new.id, new.state, is_new=True))
    return plan


def told_of_labels(sent: Sequence[NewSample], present: Sequence[NewSample], receipts: list[Receipt]) -> list[Receipt]:
    """The receipts, which name the label an item was stored under where that is not the one it came with."""
    return [
        receipt if before.label == after.label else replace(receipt, label=after.label)
        for before, after, receipt in zip(sent, present, receipts, strict=True)
    ]

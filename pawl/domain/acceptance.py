"""What becomes of admitted items. Pure rules, no I/O.

An item whose text and label are known is a repeat of that sample. Its weight, pin and golden mark take effect all the
same. A sample that is learned or queued is replaced by the item: the head unlearns the one and learns the other, both
exactly. A sample in no head is changed in place. Its source never changes, nor does anything that the item leaves out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from pawl.domain.identifiers import SAMPLE_PREFIX, new_identifier
from pawl.domain.imports import NewImport
from pawl.domain.samples import NewSample, Receipt, SampleState, Split, digest_text, split_of

BECAME_GOLDEN = "its text is golden now, so it judges candidates and is not learned"
_IN_PLACE = (SampleState.QUARANTINED, SampleState.GOLDEN)
"""States whose samples are in no head and not about to enter one."""


@dataclass(slots=True)
class ActiveSample:
    """What acceptance knows of an active sample. `leaving`: its retraction was requested."""

    id: str
    task: str
    text_digest: str
    label: str
    state: SampleState
    leaving: bool
    superseded: bool
    weight: float = 1.0
    pinned: bool = False
    source: str | None = None


@dataclass(slots=True)
class AcceptedItem:
    """An item that becomes a new sample."""

    sample: ActiveSample
    item: NewSample
    split: Split


@dataclass(slots=True)
class Acceptance:
    """What one call of `accept` does: a receipt per item, and the rows to add and to change.

    receipts    one for each item, in order.
    added       the new samples.
    superseded  ids of active samples whose text and label a later sample has, too.
    leaving     id -> reason, of learned samples that the learner is to take out.
    retracted   id -> reason, of samples in no head that leave at once.
    changed     by id, samples in no head with their new state, weight or pin.
    released    id -> import, of quarantined samples that are queued again for it.
    """

    receipts: list[Receipt] = field(default_factory=list)
    added: list[AcceptedItem] = field(default_factory=list)
    superseded: list[str] = field(default_factory=list)
    leaving: dict[str, str] = field(default_factory=dict)
    retracted: dict[str, str] = field(default_factory=dict)
    changed: dict[str, ActiveSample] = field(default_factory=dict)
    released: dict[str, str] = field(default_factory=dict)


def plan_acceptance(
    items: Sequence[NewSample],
    active: Iterable[ActiveSample],
    heldout_fraction: float,
    insisted: Collection[str] = (),
) -> Acceptance:
    """Decides item by item, as if each had been sent alone.

    `active` holds the active samples of these texts in the order of arrival. An item is a repeat when the newest
    sample of its text that stays has its label. Otherwise it is new; an older sample with the same label, which another
    label or a requested retraction is about to remove, is superseded.
    `insisted` are the imports whose owner wants them learned whatever was found: what they repeat leaves quarantine.
    """
    return _Plan(active, heldout_fraction, insisted).decided(items)


class _Plan:
    def __init__(self, active: Iterable[ActiveSample], heldout_fraction: float, insisted: Collection[str]) -> None:
        self._heldout_fraction = heldout_fraction
        self._insisted = insisted
        self._texts: defaultdict[tuple[str, str], list[ActiveSample]] = defaultdict(list)
        for row in active:
            self._texts[row.task, row.text_digest].append(row)
        self._added: dict[str, AcceptedItem] = {}
        self._plan = Acceptance()

    def decided(self, items: Sequence[NewSample]) -> Acceptance:
        for item in items:
            text_digest = digest_text(item.text)
            rows = self._texts[item.task, text_digest]
            # `rows` has the earlier items of this call as well: two rows of one import are decided as two calls would
            # be.
            newest = next((row for row in reversed(rows) if not row.leaving), None)
            if newest is not None and newest.label == item.label:
                self._plan.receipts.append(self._repeated(item, newest, rows))
            else:
                receipt = self._arrived(item, text_digest, rows)
                self._plan.receipts.append(replace(receipt, replaces=newest.label if newest else None))
        self._plan.added = list(self._added.values())
        return self._plan

    def _repeated(self, item: NewSample, known: ActiveSample, rows: list[ActiveSample]) -> Receipt:
        if known.state is SampleState.QUARANTINED and item.import_id and item.import_id in self._insisted:
            self._plan.released[known.id] = item.import_id
            known.state = SampleState.QUEUED
        turns_golden = item.golden and known.state is not SampleState.GOLDEN
        weight = item.weight if item.weight is not None else known.weight
        pinned = item.pinned or known.pinned
        changes = turns_golden or (weight, pinned) != (known.weight, known.pinned)
        # A queued one may be in a batch that is being learned with its old weight, so it is replaced; golden is learned
        # by nobody, and the promotion of such a batch fails at a sample that is queued no more.
        in_place = known.state in _IN_PLACE or (turns_golden and known.state is SampleState.QUEUED)
        if changes and not in_place:
            notes = (f"it takes the place of {known.id}", *_differences(known, weight, pinned=pinned))
            if turns_golden:
                notes = (f"{known.id} leaves the head with the next version; this one judges candidates instead",)
            # What the repeat leaves out is taken over from the sample whose place it takes.
            full = replace(item, weight=weight, pinned=pinned, source=item.source or known.source)
            receipt = self._arrived(full, known.text_digest, rows)
            return replace(receipt, warnings=("; ".join(notes), *receipt.warnings))
        stays = tuple(_stays(item, known))
        if changes:
            known.weight, known.pinned = weight, pinned
            if turns_golden:
                known.state = SampleState.GOLDEN
                self._clear(known, rows)
            self._change(known)
        return Receipt(known.id, known.state, is_new=False, warnings=stays)

    def _arrived(self, item: NewSample, text_digest: str, rows: list[ActiveSample]) -> Receipt:
        # An earlier sample of this label stays active until the learner takes it out, and would break
        # `uq_samples_active`.
        for row in rows:
            if row.label == item.label and not row.superseded:
                self._supersede(row)
        state = SampleState.GOLDEN if item.golden else SampleState.QUEUED
        if item.hold is not None:
            state = SampleState.QUARANTINED
        split = Split.GOLDEN if item.golden else split_of(text_digest, self._heldout_fraction)
        weight = 1.0 if item.weight is None else item.weight
        new = ActiveSample(
            id=new_identifier(SAMPLE_PREFIX),
            task=item.task,
            text_digest=text_digest,
            label=item.label,
            state=state,
            leaving=False,
            superseded=False,
            weight=weight,
            pinned=item.pinned,
            source=item.source,
        )
        judges = [row for row in rows if row.state is SampleState.GOLDEN and not row.leaving]
        rows.append(new)
        self._added[new.id] = AcceptedItem(new, item, split)
        if item.golden:
            self._clear(new, rows)
            judges = []
        warnings = tuple(f"{judge.id}, golden, says {judge.label!r} of this text and stays" for judge in judges)
        return Receipt(new.id, new.state, is_new=True, warnings=warnings)

    def _clear(self, golden: ActiveSample, rows: list[ActiveSample]) -> None:
        """Takes out the other samples of a text that is golden now: a text that judges must not be learned."""
        for row in rows:
            if row is golden or row.leaving:
                continue
            # An earlier item of this call may have changed it in place; leaving is the last word.
            self._plan.changed.pop(row.id, None)
            leaves = self._plan.leaving if row.state is SampleState.LEARNED else self._plan.retracted
            leaves[row.id] = BECAME_GOLDEN
            row.leaving = True

    def _supersede(self, row: ActiveSample) -> None:
        row.superseded = True
        if row.id not in self._added:  # one that came with this call gets the mark in its own INSERT
            self._plan.superseded.append(row.id)

    def _change(self, row: ActiveSample) -> None:
        arrival = self._added.get(row.id)
        if arrival is None:
            self._plan.changed[row.id] = row
        elif row.state is SampleState.GOLDEN:
            arrival.split = Split.GOLDEN


def insisted(imports: Sequence[NewImport]) -> frozenset[str]:
    """Ids of the imports whose owner wants them learned whatever was found."""
    return frozenset(new.id for new in imports if new.accept_reason is not None)


def _differences(known: ActiveSample, weight: float, *, pinned: bool) -> Iterator[str]:
    if weight != known.weight:
        yield f"weight {known.weight:g} becomes {weight:g}"
    if pinned != known.pinned:
        yield "it is pinned from now on"


def _stays(item: NewSample, known: ActiveSample) -> Iterator[str]:
    """Sentences about what a repeat asks for and does not get."""
    if known.state is SampleState.GOLDEN and not item.golden:
        yield f"{known.id} stays golden: it judges candidates and is not learned, unless it is retracted first"
    if item.source is not None and item.source != known.source:
        yield f"the source of {known.id} stays {known.source!r}" if known.source else f"{known.id} stays without source"


def told_of_labels(
    sent: Sequence[NewSample], present: Sequence[NewSample], receipts: Sequence[Receipt], warnings: Sequence[list[str]]
) -> list[Receipt]:
    """The receipts, which name the label an item was stored under where that is not the one it came with, with all
    that is to be said about each item.
    """
    return [
        replace(
            receipt,
            label=None if before.label == after.label else after.label,
            warnings=(*receipt.warnings, *more),
        )
        for before, after, receipt, more in zip(sent, present, receipts, warnings, strict=True)
    ]

"""Works out from the ledger what a promotion by hand does to samples.

A *roll-back* makes an earlier version live. Samples that were learned since then go into quarantine; a label that one
of them had replaced is queued again.

A *forced* version was refused by the gate and is made live all the same. Samples that it had learned become learned,
whatever happened to them since. Samples that it would have taken out leave. Samples that were learned after it are
queued, to be learned on top of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from pawl.domain.quarantine import QuarantineKind
from pawl.domain.samples import Sample, SampleState
from pawl.domain.versions import LedgerAction, LedgerChange, LedgerRow, RefusedAction, RefusedRow, Version, VersionState
from pawl.json_values import Json
from pawl.ports import SampleStore, VersionLedger

_IDS_KEPT = 1000


@dataclass(frozen=True, slots=True)
class Difference:
    """How the samples in a target version differ from those in the live one, by the ledger."""

    learned_since: tuple[str, ...]
    """Not in the target's head."""
    removed_since: tuple[str, ...]
    """In the target's head."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What a promotion writes to the ledger, and the samples it concerns.

    `stays_out` are samples in the target's head that were taken out for good since; the learner's next head update
    takes them out of the head as well. `queued_again` are to be learned again.
    """

    change: LedgerChange
    stays_out: tuple[str, ...] = ()
    queued_again: tuple[str, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)

    def to_json(self) -> Json:
        """What the heads lose and what they get back: counts by state and by class, and the first ids."""
        change = self.change
        away: dict[str, SampleState] = dict.fromkeys(change.requeued, SampleState.QUEUED)
        away |= dict.fromkeys(change.quarantined, SampleState.QUARANTINED)
        away |= dict.fromkeys((*change.unlearned, *change.replaced, *change.dropped), SampleState.RETRACTED)
        back: dict[str, SampleState] = dict.fromkeys(change.restored, SampleState.LEARNED)
        back |= dict.fromkeys(self.queued_again, SampleState.QUEUED)
        out = {id: self.samples[id].state for id in self.stays_out if id in self.samples}
        return {"takes_away": self._summary(away), "brings_back": self._summary(back), "stays_out": self._summary(out)}

    def _summary(self, fates: Mapping[str, SampleState]) -> Json:
        classes: dict[str, Counter[str]] = {}
        for id in fates:
            if id in self.samples:
                sample = self.samples[id]
                classes.setdefault(sample.task, Counter())[sample.label] += 1
        return {
            "count": len(fates),
            "states": dict(Counter(state.value for state in fates.values())),
            "classes": {task: dict(sorted(counts.items())) for task, counts in sorted(classes.items())},
            "ids": sorted(fates)[:_IDS_KEPT],
            "ids_left_out": max(0, len(fates) - _IDS_KEPT),
        }


def content_of(target: Version) -> int:
    """Returns the version whose ledger says what the target's head has learned: a refused one has its parent's."""
    return (target.parent or 0) if target.state is VersionState.REFUSED else target.number


def compare(rows: Sequence[LedgerRow]) -> Difference:
    """Returns the difference that the rows between target and live version make, in the order they were written."""
    first, last = _first_and_last(rows)
    # First and last alike: a sample that was learned and taken out again since is as it was in the target.
    learned = (id for id in last if first[id] is last[id] is LedgerAction.LEARN)
    removed = (id for id in last if first[id] is last[id] is LedgerAction.UNLEARN)
    return Difference(tuple(learned), tuple(removed))


async def effect_of(
    target: Version,
    live: Version | None,
    names: Mapping[str, Collection[str]],
    why: str,
    kind: QuarantineKind,
    ledger: VersionLedger,
    samples: SampleStore,
) -> Effect:
    """Works out what making the target live would do now.

    Args:
        target: The version to make live.
        live: The live version.
        names: The labels of each task that the new version's heads will have.
        why: The reason that is written to the samples.
        kind: What the quarantine says of samples that a roll-back puts there.
        ledger: Read only.
        samples: Read only.
    """
    rows = await ledger.ledger(content_of(target), live.number) if live is not None else []
    if target.state is VersionState.REFUSED:
        return await _forced(target, rows, names, why, ledger, samples)
    difference = compare(rows)
    concerned = [*difference.learned_since, *difference.removed_since]
    known = {sample.id: sample for sample in await samples.get_many(concerned)}
    # Where the label that replaced a sample stays, the sample stays out.
    texts = {(known[id].task, known[id].text_digest) for id in difference.learned_since if id in known}
    replaced = (known[id] for id in difference.removed_since if id in known and known[id].replaced_by is not None)
    change = LedgerChange(
        quarantined=dict.fromkeys(difference.learned_since, why),
        kinds=dict.fromkeys(difference.learned_since, kind),
        back_to=target.number,
    )
    queued_again = tuple(sample.id for sample in replaced if (sample.task, sample.text_digest) in texts)
    return Effect(change, difference.removed_since, queued_again, known)


async def _forced(
    target: Version,
    rows: Sequence[LedgerRow],
    names: Mapping[str, Collection[str]],
    why: str,
    ledger: VersionLedger,
    samples: SampleStore,
) -> Effect:
    refused = await ledger.refused(target.number)
    first, last = _first_and_last(rows)
    learns, leaves = _by_id(refused, RefusedAction.LEARN), _by_id(refused, RefusedAction.UNLEARN)
    holds, drops = _by_id(refused, RefusedAction.QUARANTINE), _by_id(refused, RefusedAction.DROP)
    concerned = dict.fromkeys((*last, *learns, *leaves, *holds, *drops))
    known = {sample.id: sample for sample in await samples.get_many(list(concerned))}

    def was_in(id: str) -> bool:
        """Whether it was in the version that the refused one was built on."""
        return first[id] is LedgerAction.UNLEARN if id in first else known[id].state is SampleState.LEARNED

    # What the refused version would have held: what its parent held, without what it took out, and its own samples.
    wanted = {id for id in known if id in learns or (was_in(id) and id not in leaves and id not in holds)}
    present = {id for id, sample in known.items() if sample.state is SampleState.LEARNED}
    missing = [known[id] for id in sorted(wanted - present)]
    # Not what its client, a reviewer or an operator took out since: that stays out (`stays_out`).
    restored = [sample.id for sample in missing if sample.may_return and sample.label in names.get(sample.task, ())]
    # Learned since with another correction weight, in a part of the refused batch: the head is to have the refused one.
    reweighted = [id for id in learns if id in present and known[id].emphasis != learns[id].emphasis]
    queued = {id for id, sample in known.items() if sample.state is SampleState.QUEUED}
    excess = present - wanted
    quarantined = {id: str(row.reason) for id, row in holds.items() if id in excess or id in queued - wanted}
    change = LedgerChange(
        restored=tuple(restored),
        unlearned={id: str(row.reason) for id, row in leaves.items() if id in excess and row.replaced_by is None},
        replaced={id: row.replaced_by for id, row in leaves.items() if id in excess and row.replaced_by is not None},
        dropped={id: str(row.replaced_by) for id, row in drops.items() if id in queued - wanted},
        quarantined=quarantined,
        kinds={id: holds[id].kind or QuarantineKind.GATE for id in quarantined},
        # Learned after the refusal: a correction that somebody has sent must not be lost by forcing an older candidate.
        requeued={id: why for id in sorted(excess) if id not in leaves and id not in holds},
        reweighted=tuple(reweighted),
        weighed={
            id: learns[id].emphasis
            for id in (*restored, *reweighted)
            if id in learns and known[id].emphasis != learns[id].emphasis
        },
        trained=tuple(_by_id(refused, RefusedAction.ENCODER)),
    )
    return Effect(change, tuple(sample.id for sample in missing if sample.id not in set(restored)), (), known)


def _first_and_last(rows: Sequence[LedgerRow]) -> tuple[dict[str, LedgerAction], dict[str, LedgerAction]]:
    """Returns the first and the last action on each sample."""
    first: dict[str, LedgerAction] = {}
    last: dict[str, LedgerAction] = {}
    for row in rows:
        if row.action is not LedgerAction.ENCODER:
            first.setdefault(row.sample_id, row.action)
            last[row.sample_id] = row.action
    return first, last


def _by_id(rows: Sequence[RefusedRow], action: RefusedAction) -> dict[str, RefusedRow]:
    return {row.sample_id: row for row in rows if row.action is action}

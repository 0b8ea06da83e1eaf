"""What a promotion by hand does to samples: worked out from the ledger, told to who asks, and carried out.

A *roll-back* makes an earlier version live: what was learned since goes into quarantine, and a label that one of these
had replaced is queued again. A *forced* version was refused and never entered the ledger. It is exactly what it was
when it was refused, with its samples: those that it had learned are learned, whatever became of them since, those that
it would have taken out leave, and what came after it is queued, to be learned on top of it.
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

    gone: tuple[str, ...]
    """Learned since, so not in the target's head."""
    back: tuple[str, ...]
    """Taken out since, so in the target's head again."""


@dataclass(frozen=True, slots=True)
class Effect:
    """What the promotion writes, and the samples it names. `stays_out` are in the target's head, but taken out for good
    since: the learner's next head update leaves them out again.
    """

    change: LedgerChange
    stays_out: tuple[str, ...] = ()
    queued_again: tuple[str, ...] = ()
    samples: Mapping[str, Sample] = field(default_factory=dict)

    def to_json(self) -> Json:
        """Counts by state and class, and the first ids: what it takes away from the heads and what it brings back."""
        change = self.change
        away: dict[str, SampleState] = dict.fromkeys(change.requeued, SampleState.QUEUED)
        away |= dict.fromkeys(change.quarantined, SampleState.QUARANTINED)
        away |= dict.fromkeys((*change.unlearned, *change.dropped), SampleState.RETRACTED)
        back: dict[str, SampleState] = dict.fromkeys(change.restored, SampleState.LEARNED)
        back |= dict.fromkeys(self.queued_again, SampleState.QUEUED)
        out = {id: self.samples[id].state for id in self.stays_out if id in self.samples}
        return {"takes_away": self._told(away), "brings_back": self._told(back), "stays_out": self._told(out)}

    def _told(self, fates: Mapping[str, SampleState]) -> Json:
        classes: dict[str, Counter[str]] = {}
        for id in fates:
            if id in self.samples:
                one = self.samples[id]
                classes.setdefault(one.task, Counter())[one.label] += 1
        return {
            "count": len(fates),
            "states": dict(Counter(state.value for state in fates.values())),
            "classes": {task: dict(sorted(counts.items())) for task, counts in sorted(classes.items())},
            "ids": sorted(fates)[:_IDS_KEPT],
            "ids_left_out": max(0, len(fates) - _IDS_KEPT),
        }


def content_of(target: Version) -> int:
    """The version whose ledger says what the target's head has learned; a refused one adds what it never wrote."""
    return (target.parent or 0) if target.state is VersionState.REFUSED else target.number


def compare(rows: Sequence[LedgerRow]) -> Difference:
    """The difference that the rows between target and live version make, in the order they were written."""
    first, last = _ends(rows)
    gone = (id for id in last if first[id] is last[id] is LedgerAction.LEARN)
    back = (id for id in last if first[id] is last[id] is LedgerAction.UNLEARN)
    return Difference(tuple(gone), tuple(back))


async def effect_of(
    target: Version,
    live: Version | None,
    names: Mapping[str, Collection[str]],
    why: str,
    kind: QuarantineKind,
    ledger: VersionLedger,
    samples: SampleStore,
) -> Effect:
    """What making the target's model live does now. `names` are the labels, by task, that its heads will have."""
    rows = await ledger.ledger(content_of(target), live.number) if live is not None else []
    if target.state is VersionState.REFUSED:
        return await _forced(target, rows, names, why, ledger, samples)
    difference = compare(rows)
    known = {one.id: one for one in await samples.get_many([*difference.gone, *difference.back])}
    texts = {(known[id].task, known[id].text_digest) for id in difference.gone if id in known}
    again = (known[id] for id in difference.back if id in known and known[id].was_replaced)
    change = LedgerChange(
        quarantined=dict.fromkeys(difference.gone, why),
        kinds=dict.fromkeys(difference.gone, kind),
        back_to=target.number,
    )
    queued_again = tuple(one.id for one in again if (one.task, one.text_digest) in texts)
    return Effect(change, difference.back, queued_again, known)


async def _forced(
    target: Version,
    rows: Sequence[LedgerRow],
    names: Mapping[str, Collection[str]],
    why: str,
    ledger: VersionLedger,
    samples: SampleStore,
) -> Effect:
    refused = await ledger.refused(target.number)
    first, last = _ends(rows)
    learns, leaves = _by_id(refused, RefusedAction.LEARN), _by_id(refused, RefusedAction.UNLEARN)
    holds, drops = _by_id(refused, RefusedAction.QUARANTINE), _by_id(refused, RefusedAction.DROP)
    concerned = dict.fromkeys((*last, *learns, *leaves, *holds, *drops))
    known = {one.id: one for one in await samples.get_many(list(concerned))}

    def was_in(id: str) -> bool:
        """Whether it was in the version that the refused one was built on."""
        return first[id] is LedgerAction.UNLEARN if id in first else known[id].state is SampleState.LEARNED

    wanted = {id for id in known if id in learns or (was_in(id) and id not in leaves and id not in holds)}
    present = {id for id, one in known.items() if one.state is SampleState.LEARNED}
    missing = [known[id] for id in sorted(wanted - present)]
    restored = [one.id for one in missing if one.may_return and one.label in names.get(one.task, ())]
    reweighted = [id for id in learns if id in present and known[id].emphasis != learns[id].emphasis]
    queued = {id for id, one in known.items() if one.state is SampleState.QUEUED}
    excess = present - wanted
    quarantined = {id: str(row.reason) for id, row in holds.items() if id in excess or id in queued - wanted}
    change = LedgerChange(
        restored=tuple(restored),
        unlearned={id: str(row.reason) for id, row in leaves.items() if id in excess},
        dropped={id: str(row.reason) for id, row in drops.items() if id in queued - wanted},
        quarantined=quarantined,
        kinds={id: holds[id].kind or QuarantineKind.GATE for id in quarantined},
        requeued={id: why for id in sorted(excess) if id not in leaves and id not in holds},
        reweighted=tuple(reweighted),
        weighed={
            id: learns[id].emphasis
            for id in (*restored, *reweighted)
            if id in learns and known[id].emphasis != learns[id].emphasis
        },
        trained=tuple(_by_id(refused, RefusedAction.ENCODER)),
    )
    return Effect(change, tuple(one.id for one in missing if one.id not in set(restored)), (), known)


def _ends(rows: Sequence[LedgerRow]) -> tuple[dict[str, LedgerAction], dict[str, LedgerAction]]:
    """What was done first and last with each sample."""
    first: dict[str, LedgerAction] = {}
    last: dict[str, LedgerAction] = {}
    for row in rows:
        if row.action is not LedgerAction.ENCODER:
            first.setdefault(row.sample_id, row.action)
            last[row.sample_id] = row.action
    return first, last


def _by_id(rows: Sequence[RefusedRow], action: RefusedAction) -> dict[str, RefusedRow]:
    return {row.sample_id: row for row in rows if row.action is action}

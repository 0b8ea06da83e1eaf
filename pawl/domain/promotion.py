"""What a promotion does to samples, and the events that it writes. Pure rules, no I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from pawl.domain.errors import CandidateStale
from pawl.domain.label_changes import LABEL_CHANGED, label_payload
from pawl.domain.quarantine import Doubt, QuarantineKind
from pawl.domain.samples import ACTIVE_STATES, LockedSample, Move, Sample, SampleState
from pawl.domain.versions import LedgerAction, LedgerChange, LedgerRow, NewVersion, VersionKind
from pawl.json_values import Json

PROMOTED = "version_promoted"
REFUSED = "version_refused"
LEARNED = "feedback_learned"
RESTORED = "the label that had replaced it was rolled back"
RETRACTED = "retracted by the client"
OVERLAP = "labels_overlap"
_IDS_IN_EVENT = 100


@dataclass(slots=True)
class Promotion:
    """What a promotion does to samples, by id, and the ledger rows in order.

    learned   become learned.
    emphasis  id -> factor of the emphasis of some of them.
    weighed   id -> new emphasis of others.
    moves     of the samples that leave the heads or never enter them.
    rows      of the ledger.
    doubts    what spoke against those that are learned or quarantined.
    """

    learned: tuple[str, ...]
    emphasis: dict[str, float] = field(default_factory=dict)
    weighed: dict[str, float] = field(default_factory=dict)
    moves: dict[str, Move] = field(default_factory=dict)
    rows: list[LedgerRow] = field(default_factory=list)
    doubts: dict[str, Doubt] = field(default_factory=dict)


def named_samples(change: LedgerChange) -> list[str]:
    """All ids in a change, sorted (the order in which their rows are locked), each once."""
    return sorted({*_moved(change), *change.trained})


def plan_promotion(version: NewVersion, change: LedgerChange, locked: Mapping[str, LockedSample]) -> Promotion:
    """Works out the promotion. `locked` holds the samples of `named_samples`, by id.

    A learned sample that a roll-back quarantines is retracted instead when its client had asked for that: released
    from quarantine it would be learned again.

    Raises `CandidateStale` when a sample is not in the state that the change starts from, and `ValueError` when the
    change names a sample twice or emphasises one that it does not learn.
    """
    _check_change(change)
    _check_states(version, change, locked)
    plan = Promotion((*change.learned, *change.restored), change.emphasis, change.weighed)
    plan.doubts = {
        name: doubt for name, doubt in change.doubts.items() if name in {*change.learned, *change.quarantined}
    }
    default = QuarantineKind.ROLLBACK if version.kind is VersionKind.ROLLBACK else QuarantineKind.GATE
    for sample_id, reason in change.unlearned.items():
        plan.moves[sample_id] = Move(SampleState.RETRACTED, reason)
    for sample_id, newer in (*change.replaced.items(), *change.dropped.items()):
        plan.moves[sample_id] = Move.replaced(newer)
    for sample_id, reason in change.quarantined.items():
        leaves = locked[sample_id].retract_requested
        state = SampleState.RETRACTED if leaves else SampleState.QUARANTINED
        plan.moves[sample_id] = Move(state, reason, change.kinds.get(sample_id, default))
    for sample_id, reason in change.requeued.items():
        # Queued again it would be learned, although its client has asked for the opposite meanwhile.
        leaves = locked[sample_id].retract_requested
        plan.moves[sample_id] = Move(SampleState.RETRACTED, RETRACTED) if leaves else Move(SampleState.QUEUED, reason)
    # A queued one that the gate quarantines was in no head, so the ledger has nothing of it.
    rolled_back = [name for name in change.quarantined if locked[name].state is SampleState.LEARNED]
    unlearned = (*change.unlearned, *change.replaced, *rolled_back, *change.requeued, *change.reweighted)
    # Before LEARN comes UNLEARN: who follows the ledger takes a sample that is weighed anew out and then in.
    for action, ids in (
        (LedgerAction.UNLEARN, unlearned),
        (LedgerAction.LEARN, (*plan.learned, *change.reweighted)),
        (LedgerAction.ENCODER, dict.fromkeys(change.trained)),
    ):
        plan.rows += [LedgerRow(version.number, sample_id, action) for sample_id in ids]
    return plan


def _moved(change: LedgerChange) -> list[str]:
    leave = (*change.unlearned, *change.replaced, *change.dropped, *change.quarantined, *change.requeued)
    return [*change.learned, *change.restored, *change.reweighted, *leave]


def _check_change(change: LedgerChange) -> None:
    moved = _moved(change)
    # Two moves of one sample would leave it in the state of whichever is written last.
    if len(set(moved)) != len(moved):
        raise ValueError("a change names a sample twice")
    if not change.emphasis.keys() <= set(change.learned) or not change.weighed.keys() <= {
        *change.restored,
        *change.reweighted,
    }:
        raise ValueError("a change emphasises a sample that it does not learn")


def _check_states(version: NewVersion, change: LedgerChange, locked: Mapping[str, LockedSample]) -> None:
    def check(ids: Iterable[str], *allowed: SampleState) -> None:
        for sample_id in ids:
            sample = locked.get(sample_id)
            if sample is None or sample.state not in allowed:
                now = "unknown" if sample is None else sample.state.value
                expected = " or ".join(state.value for state in allowed)
                raise CandidateStale(
                    live=version.parent, parent=version.parent, problem=f"{sample_id} is {now}, not {expected}"
                )

    check(change.learned, SampleState.QUEUED)
    check((*change.unlearned, *change.replaced), SampleState.LEARNED)
    check(change.dropped, SampleState.QUEUED)
    check(change.quarantined, SampleState.QUEUED, SampleState.LEARNED)
    # Any state: what the encoder was trained on stays in it, and must be on record, whatever became of the sample
    # since.
    check(change.trained, *SampleState)
    check((*change.requeued, *change.reweighted), SampleState.LEARNED)
    for sample_id in change.restored:
        sample = locked.get(sample_id)
        if sample is None or not sample.may_return:
            problem = f"{sample_id} was taken out meanwhile"
            raise CandidateStale(live=version.parent, parent=version.parent, problem=problem)


def replaced_since(
    version: NewVersion, change: LedgerChange, texts: Iterable[Sample], superseded: Collection[str]
) -> list[str]:
    """Returns the ids of the samples that a roll-back queues again: those that a quarantined label had replaced.

    Without them a text would lose the label that the target version had for it.

    Args:
        version: The roll-back.
        change: Its change; `quarantined` and `back_to` are used.
        texts: All samples of the texts of the quarantined ones, in their states after that.
        superseded: Ids of those whose text and label a later sample has, too.

    A sample stays out when an active one has its text and label, when its text is golden now, and when the version
    does not have its label any more (renamed or retired since).
    """
    newest: dict[tuple[str, str], Sample] = {}
    active: set[tuple[str, str, str]] = set()
    judges: set[tuple[str, str]] = set()
    for sample in sorted(texts, key=lambda sample: sample.seq):
        if sample.state in ACTIVE_STATES and sample.id not in superseded:
            active.add((sample.task, sample.text_digest, sample.label))
        if sample.state is SampleState.GOLDEN:
            judges.add((sample.task, sample.text_digest))
        known = sample.learned_in_version is not None and sample.learned_in_version <= (change.back_to or 0)
        if known and sample.replaced_by is not None:
            # By rising `seq`: of several that were replaced the last one was the text's label when the target was made.
            newest[sample.task, sample.text_digest] = sample
    return [
        sample.id
        for sample in newest.values()
        if sample.id not in superseded
        and (sample.task, sample.text_digest, sample.label) not in active
        and (sample.task, sample.text_digest) not in judges
        and sample.task in version.heads
        and sample.label in version.heads[sample.task].labels
    ]


def promotion_events(version: NewVersion, change: LedgerChange) -> list[tuple[str, Json]]:
    """Type and payload of the events that a promotion writes."""
    payload = _lineage(version) | {
        "learned": len(change.learned),
        "unlearned": len(change.unlearned) + len(change.replaced),
        "dropped": len(change.dropped),
        "quarantined": len(change.quarantined),
        "restored": len(change.restored),
        "requeued": len(change.requeued),
    }
    events: list[tuple[str, Json]] = [(PROMOTED, payload), *_overlaps(version)]
    if learned := (*change.learned, *change.restored):
        ids = list(learned[:_IDS_IN_EVENT])
        events.append((LEARNED, {"version": version.number, "ids": ids, "count": len(learned)}))
    if change.label is not None:
        events.append((LABEL_CHANGED, label_payload(change.label) | {"version": version.number}))
    return events


def refusal_events(version: NewVersion, quarantined: int) -> list[tuple[str, Json]]:
    """Type and payload of the events that a refusal writes."""
    return [(REFUSED, _lineage(version) | {"quarantined": quarantined}), *_overlaps(version)]


def _overlaps(version: NewVersion) -> list[tuple[str, Json]]:
    """One event when texts of older labels are answered with labels that are new in the candidate, else none."""
    reports = version.gate.get("tasks", {})
    overlaps = {task: report["overlaps"] for task, report in reports.items() if report["overlaps"]}
    accepted = bool(version.gate.get("accepted"))
    return [(OVERLAP, {"version": version.number, "accepted": accepted, "tasks": overlaps})] if overlaps else []


def _lineage(version: NewVersion) -> Json:
    return {
        "version": version.number,
        "parent": version.parent,
        "kind": version.kind.value,
        "trigger": version.trigger,
        "promoted_by": version.promoted_by,
        "reason": version.reason,
    }

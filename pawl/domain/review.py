"""What becomes of a sample in quarantine, or of a dead letter, when somebody decides about it. Pure rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pawl.domain.dead_letters import DeadLetterAction, DeadLetterDecision
from pawl.domain.errors import NotDead, NotQuarantined, SentAgain
from pawl.domain.quarantine import Hold, Review, ReviewAction
from pawl.domain.samples import Move, NewSample, Sample, SampleState
from pawl.json_values import Json

HELD = "feedback_quarantined"
REVIEWED = "quarantine_reviewed"
DEAD_DECIDED = "dead_letter_decided"
_IDS_IN_EVENT = 100  # an event goes to every listener; a screen may hold thousands at once
_REASONS_IN_EVENT = 10
_OUTCOMES = {
    ReviewAction.RELEASE.value: (SampleState.QUEUED, "released"),
    DeadLetterAction.REDRIVE.value: (SampleState.QUEUED, "redriven"),
    ReviewAction.DISCARD.value: (SampleState.REJECTED, "discarded"),
}
_CARRIED_OUT = {
    ReviewAction.RELEASE: (SampleState.QUEUED, SampleState.LEARNED),
    ReviewAction.DISCARD: (SampleState.REJECTED,),
}
"""States in which a review has been carried out already."""


def review_changes(sample: Sample, review: Review) -> bool:
    """Whether a review changes anything: not one that was carried out before. Raises `NotQuarantined`."""
    if sample.state is SampleState.QUARANTINED:
        return True
    if sample.reviewed_at is not None and sample.state in _CARRIED_OUT[review.action]:
        return False
    raise NotQuarantined(sample_id=sample.id, state=sample.state.value)


def decision_changes(sample: Sample, decision: DeadLetterDecision) -> bool:
    """Whether a decision about a dead letter changes anything: not one that was carried out before.

    Raises `NotDead`.
    """
    if sample.state is SampleState.DEAD:
        return True
    if sample.state is outcome(decision).state and sample.decision == decision.action.value:
        return False
    raise NotDead(sample_id=sample.id, state=sample.state.value)


def outcome(decision: Review | DeadLetterDecision) -> Move:
    """The state and the reason that a sample gets."""
    state, done = _OUTCOMES[decision.action.value]
    return Move(state, f"{done} by {decision.by}: {decision.reason}")


def review_event(sample: Sample, review: Review) -> tuple[str, Json]:
    """Type and payload of the event that a review writes; `sample` is as it was before."""
    kind = sample.quarantined_by and sample.quarantined_by.value
    return REVIEWED, _payload(sample, review, sample.label) | {"quarantined_by": kind}


def decision_event(sample: Sample, decision: DeadLetterDecision, label: str) -> tuple[str, Json]:
    """Type and payload of the event that a decision about a dead letter writes; `sample` is as it was before."""
    return DEAD_DECIDED, _payload(sample, decision, label)


def held_event(holds: Mapping[str, Hold]) -> tuple[str, Json]:
    """Type and payload of the event that holding samples writes."""
    kinds = sorted({hold.kind.value for hold in holds.values()})
    counts = {kind: sum(hold.kind.value == kind for hold in holds.values()) for kind in kinds}
    reasons = list(dict.fromkeys(hold.reason for hold in holds.values()))[:_REASONS_IN_EVENT]
    return HELD, {"count": len(holds), "kinds": counts, "ids": list(holds)[:_IDS_IN_EVENT], "reasons": reasons}


def as_new(sample: Sample) -> NewSample:
    """A dead letter as it would arrive today."""
    # `create_task`: with its other samples gone the task may have gone, too, and the operator asks for this one.
    return NewSample(sample.text, sample.label, sample.task, weight=sample.weight, create_task=True)


def check_not_sent_again(sample: Sample, label: str, active: Sequence[Sample]) -> None:
    """Raises `SentAgain` where an active sample of the text stands in its place: one of its label, or a golden one."""
    for other in active:
        if other.label == label or other.state is SampleState.GOLDEN:
            raise SentAgain(sample_id=sample.id, other=other.id, state=other.state.value)


def _payload(sample: Sample, decision: Review | DeadLetterDecision, label: str) -> Json:
    return {
        "id": sample.id,
        "task": sample.task,
        "label": label,
        "source": sample.source,
        "action": decision.action.value,
        "by": decision.by,
        "reason": decision.reason,
        "was": sample.reason,
    }

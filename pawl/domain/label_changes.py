"""How a change of a label is asked for, carried out and told. Pure rules, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from pawl.domain.errors import CandidateStale, InvalidInput, QueueFull
from pawl.domain.forms import clean_name, clean_task
from pawl.domain.identifiers import LABEL_CHANGE_PREFIX, new_identifier
from pawl.domain.labels import (
    BECOMES,
    LabelChange,
    LabelChangeKind,
    LabelChangeState,
    LabelFacts,
    LabelRecord,
    LabelRequest,
    LabelState,
    LabelSummary,
    check_request,
    drop_reason,
    retirement_reason,
)
from pawl.domain.samples import ACTIVE_STATES, LockedSample, Move, SampleState
from pawl.json_values import Json

LABEL_REQUESTED = "label_change_requested"
LABEL_CHANGED = "label_changed"
LABEL_FAILED = "label_change_failed"
_MOST_PENDING = 100
_RETRY_AFTER_SECONDS = 5


def accepted_change(request: LabelRequest, facts: LabelFacts, waiting: int, now: datetime) -> LabelChange:
    """Makes a pending change of a request from `in_form`. Raises what `check_request` raises, and `QueueFull`."""
    check_request(request, facts)
    if waiting >= _MOST_PENDING:
        raise QueueFull(queue="label changes", limit=_MOST_PENDING, retry_after=_RETRY_AFTER_SECONDS)
    return LabelChange(
        id=new_identifier(LABEL_CHANGE_PREFIX),
        kind=request.kind,
        task=request.task,
        label=request.label,
        target=request.target,
        reason=request.reason,
        state=LabelChangeState.PENDING,
        version=None,
        problem=None,
        requested_at=now,
        settled_at=None,
    )


def in_form(request: LabelRequest) -> LabelRequest:
    """Returns the request with cleaned names. Raises `InvalidInput`."""
    try:
        return replace(
            request,
            task=clean_task(request.task),
            label="" if request.kind is LabelChangeKind.DROP else clean_name(request.label),
            target=None if request.target is None else clean_name(request.target),
        )
    except ValueError as error:
        raise InvalidInput(problem=str(error)) from None


def check_pending(change: LabelChange) -> None:
    """Raises `CandidateStale` for a change that somebody settled meanwhile."""
    if change.state is not LabelChangeState.PENDING:
        raise CandidateStale(
            parent=None, live=None, problem=f"label change {change.id} is {change.state.value} already"
        )


def stale_learned(change: LabelChange) -> CandidateStale:
    """The error when samples of the label or task were learned that the promotion does not know of."""
    problem = f"samples of {change.label or change.task!r} were learned since label change {change.id} was prepared"
    return CandidateStale(parent=None, live=None, problem=problem)


def leaving_move(change: LabelChange, sample: LockedSample) -> Move:
    """What becomes of a sample of a retired label, or of a dropped task or source.

    Raises `CandidateStale` for a learned one: the promotion that carries the change out does not know of it.
    """
    if sample.state is SampleState.LEARNED:
        raise stale_learned(change)
    reason = drop_reason(change) if change.kind is LabelChangeKind.DROP else retirement_reason(change)
    return Move(SampleState.RETRACTED if sample.state is SampleState.GOLDEN else SampleState.REJECTED, reason)


def present_records(
    records: Mapping[str, LabelRecord], change: LabelChange, version: int | None, now: datetime
) -> list[LabelRecord]:
    """Returns the label records that a change writes: that of the label; that of its target, where the target is new or
    was not active; and those of older names of the label, which now stand for the target.
    """
    if change.kind is LabelChangeKind.DROP:
        return []

    def record(name: str, state: LabelState, stands_for: str | None = None) -> LabelRecord:
        return LabelRecord(change.task, name, state, stands_for, version, change.reason, now)

    written = [record(change.label, BECOMES[change.kind], change.target)]
    target = change.target
    if target is not None:
        known = records.get(target)
        if change.kind is LabelChangeKind.RENAME or (known is not None and known.state is not LabelState.ACTIVE):
            written.append(record(target, LabelState.ACTIVE))
        # So a name is at most one step from its label, however often it was renamed.
        written += [
            replace(other, now=target)
            for other in records.values()
            if other.now == change.label and other.name != target
        ]
    return written


def label_payload(change: LabelChange) -> Json:
    """What the events about a change of a label say."""
    names = ("id", "task", "label", "target", "reason", "version")
    return {"kind": change.kind.value} | {name: getattr(change, name) for name in names}


def request_events(change: LabelChange) -> list[tuple[str, Json]]:
    """Type and payload of the events that a request writes."""
    asked = (LABEL_REQUESTED, label_payload(change))
    return [asked, settlement_event(change)] if change.state is LabelChangeState.APPLIED else [asked]


def settlement_event(change: LabelChange) -> tuple[str, Json]:
    """Type and payload of the event that settling a change without a version writes."""
    if change.state is LabelChangeState.FAILED:
        return LABEL_FAILED, label_payload(change) | {"problem": change.problem}
    return LABEL_CHANGED, label_payload(change)


def summarise(
    records: Mapping[str, LabelRecord],
    counts: Mapping[tuple[str, str], int],
    since: Mapping[str, int],
    pending: Sequence[LabelChange],
) -> list[LabelSummary]:
    """Summarises the labels of a task, by name.

    `counts` are samples by (label, state), `since` the version that learned a label's oldest sample.
    """
    by_label: dict[str, dict[str, int]] = {}
    for (label, state), count in counts.items():
        by_label.setdefault(label, {})[state] = count
    waiting = {change.label: change.id for change in pending}
    summaries = []
    for name in sorted({*records, *by_label}):
        record = records.get(name)
        counted = by_label.get(name, {})
        summaries.append(
            LabelSummary(
                name=name,
                state=record.state if record else LabelState.ACTIVE,
                now=record.now if record else None,
                since_version=(record.since_version if record else None) or since.get(name),
                reason=record.reason if record else None,
                samples={state.value: counted.get(state.value, 0) for state in ACTIVE_STATES},
                pending=waiting.get(name),
            )
        )
    return summaries

"""Labels as an operator decides about them: added, renamed, merged, retired. Frozen values and rules, no I/O.

A label needs no decision to exist: feedback that names it is enough. What was decided is kept per (task, name), so that
feedback which names a label of yesterday is understood.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from pawl.domain.errors import (
    Conflict,
    InvalidInput,
    LabelChangePending,
    LabelExists,
    LabelNotFound,
    LabelRetired,
    SourceNotFound,
    TaskNotFound,
    TooFewLabels,
    UnknownMergeTarget,
)
from pawl.domain.forms import no_such_task

FEWEST_LABELS = 2
"""Labels with samples that a task keeps: with one there is nothing to tell apart."""


class LabelState(StrEnum):
    """What is decided about a name. `renamed` and `merged` ones stand for another label."""

    ACTIVE = "active"
    RENAMED = "renamed"
    MERGED = "merged"
    RETIRED = "retired"


class LabelChangeKind(StrEnum):
    """What an operator can ask for."""

    ADD = "add"
    RENAME = "rename"
    MERGE = "merge"
    RETIRE = "retire"
    DROP = "drop"
    """Not of a label (`label` is empty): the task itself goes or, with a `target`, what that source said in it."""


class LabelChangeState(StrEnum):
    """Where a request is. `failed` ones changed nothing."""

    PENDING = "pending"
    APPLIED = "applied"
    FAILED = "failed"


BECOMES = {
    LabelChangeKind.ADD: LabelState.ACTIVE,
    LabelChangeKind.RENAME: LabelState.RENAMED,
    LabelChangeKind.MERGE: LabelState.MERGED,
    LabelChangeKind.RETIRE: LabelState.RETIRED,
}
"""The state of a label after a change of it."""


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """The present decision about one name. `now` is the label that a renamed or merged one stands for.

    `since_version` is the version that carried it out; None where no head was concerned.
    """

    task: str
    name: str
    state: LabelState
    now: str | None
    since_version: int | None
    reason: str | None
    decided_at: datetime


@dataclass(frozen=True, slots=True)
class LabelRequest:
    """What is asked for. `target` is the new name of a rename, the surviving label of a merge, the source whose samples
    are dropped, else None. `create_task`: the task of an added label may be new.
    """

    kind: LabelChangeKind
    task: str
    label: str
    target: str | None = None
    reason: str | None = None
    create_task: bool = False


@dataclass(frozen=True, slots=True)
class LabelChange:
    """A request and what became of it. `version` carried it out; None where no head was concerned."""

    id: str
    kind: LabelChangeKind
    task: str
    label: str
    target: str | None
    reason: str | None
    state: LabelChangeState
    version: int | None
    problem: str | None
    requested_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True)
class LabelSummary:
    """A label as it is listed: `samples` counts active ones by state; `pending` is the id of a change under way."""

    name: str
    state: LabelState
    now: str | None
    since_version: int | None
    reason: str | None
    samples: dict[str, int] = field(default_factory=dict)
    pending: str | None = None


@dataclass(frozen=True, slots=True)
class TaskSummary:
    """A task as it is listed: its labels and active samples by state; `pending` is the id of a request to drop it."""

    name: str
    labels: int
    samples: dict[str, int]
    served: bool
    pending: str | None = None


@dataclass(frozen=True, slots=True)
class LabelFacts:
    """What a request is checked against: the records of its task, labels with active samples, those with learned ones,
    and the changes under way; all tasks there are, and whether the source that is to be dropped has said anything.
    """

    records: Mapping[str, LabelRecord]
    in_use: Collection[str]
    learned: Collection[str]
    pending: Sequence[LabelChange]
    tasks: Collection[str] = ()
    has_source: bool = False

    def knows(self, label: str) -> bool:
        """Whether it can be answered or sent now."""
        record = self.records.get(label)
        return label in self.in_use or (record is not None and record.state is LabelState.ACTIVE)


def check_request(request: LabelRequest, facts: LabelFacts) -> None:
    """Raises a `Conflict`, `InvalidInput` or `NotFound` that says why a request cannot be met."""
    for other in facts.pending:
        if _clash(request, other):
            raise LabelChangePending(label=request.label, change=other.id, kind=other.kind.value, other=other.label)
    if request.kind is LabelChangeKind.DROP:
        _check_drop(request, facts)
        return
    if request.kind is LabelChangeKind.ADD:
        _check_add(request, facts)
        return
    if not facts.knows(request.label):
        raise LabelNotFound(label=request.label, task=request.task)
    if request.target == request.label:
        raise InvalidInput(problem=f"{request.label!r} is its own target.")
    if request.kind is LabelChangeKind.RENAME:
        _check_new_name(request, facts)
    if request.kind is LabelChangeKind.MERGE and not facts.knows(request.target or ""):
        raise UnknownMergeTarget(label=request.target, task=request.task)
    # Counted as gone already: two retirements that are asked for one after the other could leave a task with one label.
    leaving = {
        change.label for change in facts.pending if change.kind in {LabelChangeKind.MERGE, LabelChangeKind.RETIRE}
    }
    check_enough_stay(request, [label for label in facts.learned if label not in leaving])


def check_enough_stay(request: LabelRequest | LabelChange, learned: Iterable[str]) -> None:
    """Raises `TooFewLabels` where a merge or a retirement would leave a task with one label that has samples."""
    labels = set(learned)
    if request.kind not in {LabelChangeKind.MERGE, LabelChangeKind.RETIRE} or request.label not in labels:
        return
    after = labels - {request.label} | ({request.target} if request.target is not None else set())
    if len(after) < FEWEST_LABELS:
        raise TooFewLabels(label=request.label, task=request.task, fewest=FEWEST_LABELS)


def _check_add(request: LabelRequest, facts: LabelFacts) -> None:
    if facts.knows(request.label):
        raise LabelExists(label=request.label, task=request.task, advice="there is nothing to add.")
    if request.task not in facts.tasks and not request.create_task:
        raise no_such_task(request.task, facts.tasks)


def _check_drop(request: LabelRequest, facts: LabelFacts) -> None:
    if request.task not in facts.tasks:
        raise TaskNotFound(task=request.task, known=", ".join(sorted(facts.tasks)) or "none")
    if request.target is not None and not facts.has_source:
        raise SourceNotFound(source=request.target, task=request.task)


def _check_new_name(request: LabelRequest, facts: LabelFacts) -> None:
    target = request.target or ""
    if facts.knows(target):
        advice = "to make one of the two, merge instead (`merge_into`)."
        raise LabelExists(label=target, task=request.task, advice=advice)
    record = facts.records.get(target)
    if record is not None and record.state is LabelState.RETIRED:
        raise Conflict(problem=f"the label {target!r} was retired; add it again before you use its name.")


def _clash(request: LabelRequest, other: LabelChange) -> bool:
    """Whether the outcome would depend on which comes first. Two labels may be merged into one third at a time."""
    if LabelChangeKind.DROP in (request.kind, other.kind):
        return True
    if request.label in {other.label, other.target} or request.target == other.label:
        return True
    both_merge = request.kind is LabelChangeKind.MERGE and other.kind is LabelChangeKind.MERGE
    return request.target is not None and request.target == other.target and not both_merge


def retirement_reason(change: LabelChange) -> str:
    """What a sample says that left with its label."""
    return f"the label {change.label!r} was retired ({change.id})"


def is_whole(change: LabelChange) -> bool:
    """Whether it drops a whole task."""
    return change.kind is LabelChangeKind.DROP and change.target is None


def drop_reason(change: LabelChange) -> str:
    """What a sample says that left with its task, or with its source."""
    what = f"the task {change.task!r}" if change.target is None else f"what {change.target!r} said"
    return f"{what} was dropped ({change.id})"


def resolve(records: Mapping[str, LabelRecord], task: str, label: str) -> str:
    """The label that a name stands for now. Raises `LabelRetired`."""
    # `present_records` writes no circle; one that came about otherwise would hang every request that names it.
    seen: set[str] = set()
    while (record := records.get(label)) is not None and record.state is not LabelState.ACTIVE and label not in seen:
        if record.state is LabelState.RETIRED or record.now is None:
            raise LabelRetired(label=label, task=task)
        seen.add(label)
        label = record.now
    return label


def present_names(labels: Sequence[str], changes: Sequence[LabelChange]) -> list[str | None]:
    """What a head's labels are called after these changes, in their order; None for the retired."""
    names: list[str | None] = list(labels)
    for change in changes:
        if change.kind is LabelChangeKind.DROP:
            # Dropping a source leaves the labels that others use; dropping a task leaves none.
            names = names if change.target is not None else [None] * len(names)
        elif change.kind is not LabelChangeKind.ADD:
            names = [change.target if name == change.label else name for name in names]
    return names

"""Quarantine: labels kept out of the heads until somebody has looked at them. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class QuarantineKind(StrEnum):
    """What put a sample into quarantine."""

    GATE = "gate"
    """The gate refused a candidate with it alone."""
    ROLLBACK = "rollback"
    """It was learned after the version that somebody rolled back to."""
    PROBATION = "probation"
    """It was learned after the version that the learner rolled back to by itself."""
    FLOW = "flow"
    """It belongs to a flow from one label to another that honest mistakes do not explain."""
    SOURCE = "source"
    """Its source has lost the learner's trust."""
    DUPLICATES = "duplicates"
    """It is one of many near-duplicates with one contradicting label."""
    CONFLICT = "conflict"
    """Sources disagree about its text."""


class ReviewAction(StrEnum):
    """What a reviewer does with a quarantined sample."""

    RELEASE = "release"
    """It is queued again, and not screened a second time."""
    DISCARD = "discard"
    """It is rejected for good."""


@dataclass(frozen=True, slots=True)
class Hold:
    """Why a sample goes into quarantine, as a sentence for the reviewer."""

    kind: QuarantineKind
    reason: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """What spoke against a sample when it came; kept with it, so that a restarted learner remembers.

    answer     the label that the live head gave instead.
    opposed    head and neighbours contradict the label with confidence.
    plausible  the label is among the head's best or the neighbours' labels.
    """

    answer: str
    opposed: bool
    plausible: bool


@dataclass(frozen=True, slots=True)
class Review:
    """A reviewer's decision. `by` is who made it, as far as that is known."""

    action: ReviewAction
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class QuarantineFilter:
    """Which quarantined samples are asked for; None is any."""

    task: str | None = None
    source: str | None = None
    label: str | None = None
    kind: QuarantineKind | None = None

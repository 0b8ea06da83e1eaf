"""Dead letters: samples that could not be learned, though it went on without them. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class DeadLetterAction(StrEnum):
    """What is decided about a dead sample."""

    REDRIVE = "redrive"
    """It is queued again, with all its tries."""
    DISCARD = "discard"
    """It is rejected for good."""


@dataclass(frozen=True, slots=True)
class DeadLetterDecision:
    """Somebody's decision. `by` is who made it, as far as that is known."""

    action: DeadLetterAction
    reason: str
    by: str


@dataclass(frozen=True, slots=True)
class DeadLetterFilter:
    """Which dead samples are asked for; None is any."""

    task: str | None = None
    source: str | None = None
    label: str | None = None

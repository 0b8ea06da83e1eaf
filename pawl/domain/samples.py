"""Samples: labelled texts on their way from feedback to a version. Frozen values, no I/O."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from pawl.domain.predictions import AnsweredBy
from pawl.domain.quarantine import Doubt, Hold, QuarantineKind

DEFAULT_TASK = "default"


class SampleState(StrEnum):
    """Where a sample is. `queued` is the only state that is not final for an attempt to learn it."""

    QUEUED = "queued"
    LEARNED = "learned"
    QUARANTINED = "quarantined"
    REJECTED = "rejected"
    DEAD = "dead"
    RETRACTED = "retracted"
    GOLDEN = "golden"
    """Never learned: only judges candidates (made by `pawl import --golden` alone)."""


ACTIVE_STATES = (SampleState.QUEUED, SampleState.LEARNED, SampleState.QUARANTINED, SampleState.GOLDEN)
"""States in which the same (task, text, label) sent again is the same sample, not a new one."""


class Split(StrEnum):
    """Which part of the store a sample belongs to; a function of the normalised text alone."""

    TRAIN = "train"
    HELDOUT = "heldout"
    GOLDEN = "golden"


class Origin(StrEnum):
    """How a sample came in."""

    FEEDBACK = "feedback"
    IMPORT = "import"
    RESTORED = "restored"
    """Feedback where it was exported: words never answer its text alone here either. Else as an import."""


def normalise_text(text: str) -> str:
    """The form of a text that decides its identity and its split: NFKC, case-folded, single spaces."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def digest_text(text: str) -> str:
    """Hex SHA-256 of the normalised text (64 characters)."""
    # surrogatepass: any string has a digest, also one that `clean_text` refuses.
    return hashlib.sha256(normalise_text(text).encode("utf-8", "surrogatepass")).hexdigest()


def split_of(text_digest: str, heldout_fraction: float) -> Split:
    """Split of a text. The same text is always on the same side, in every task, process and year.

    Takes the first 64 bits of the digest as a number in [0, 1) and compares it with the fraction.
    """
    position = int(text_digest[:16], 16) / 2.0**64
    return Split.HELDOUT if position < heldout_fraction else Split.TRAIN


@dataclass(frozen=True, slots=True)
class NewSample:
    """A labelled text as it was sent, before the store gives it an id and a place in the order.

    A weight or source of None, and `golden` or `pinned` of false, mean that nothing was said: a new sample gets weight
    1, a known one stays as it is. `create_task` allows a new task. `hold` keeps a sample in quarantine that was there
    when it was exported.
    """

    text: str
    label: str
    task: str = DEFAULT_TASK
    weight: float | None = None
    source: str | None = None
    origin: Origin = Origin.FEEDBACK
    prediction_id: str | None = None
    served_version: int | None = None
    served_label: str | None = None
    served_by: AnsweredBy | None = None
    golden: bool = False
    pinned: bool = False
    import_id: str | None = None
    create_task: bool = False
    emphasis: float = 1.0
    hold: Hold | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A stored sample.

    `emphasis` is the correction weight, a factor of `weight`, that made its label the answer to its own text when it
    was learned (`worker/model/correction_weight.py`).
    `seq` is the order of arrival (grows, never reused); `id` is what clients see (`fb_...`).
    Of two active samples with one text in one task, the one with the larger `seq` is right.
    `quarantined_by` is what put it into quarantine last; `reviewed_at` is when somebody last decided about that;
    `decision` is what somebody decided last about it in quarantine or as a dead letter: release, redrive or discard;
    `doubt` is what spoke against its label when it came; `import_id` is the import that brought it (`im_...`).
    `served_version`, `served_label` and `served_by` say what was answered to its text, and which heads spoke, where the
    label came with a prediction's id.
    `replaced_by` is the newer sample of the same text for whose label it was `retracted`; it is None in every other
    state, and once its client has taken it back. `reason` is a sentence for people: no code reads it.
    """

    id: str
    seq: int
    task: str
    text: str
    text_digest: str
    label: str
    weight: float
    source: str | None
    origin: Origin
    prediction_id: str | None
    served_version: int | None
    served_label: str | None
    split: Split
    pinned: bool
    state: SampleState
    reason: str | None
    learned_in_version: int | None
    retract_requested: bool
    created_at: datetime
    updated_at: datetime
    quarantined_by: QuarantineKind | None = None
    reviewed_at: datetime | None = None
    doubt: Doubt | None = None
    emphasis: float = 1.0
    import_id: str | None = None
    replaced_by: str | None = None
    decision: str | None = None
    served_by: AnsweredBy | None = None

    @property
    def can_come_back(self) -> bool:
        """Whether something could still bring it into a head: a review, a roll-back, a dead letter driven again."""
        return self.state in {*ACTIVE_STATES, SampleState.DEAD} or self.replaced_by is not None

    @property
    def may_return(self) -> bool:
        """See `may_return`."""
        return may_return(self.state, self.replaced_by)


@dataclass(frozen=True, slots=True)
class LockedSample:
    """What a transaction that has locked a sample decides on: nobody else changes it until the transaction ends."""

    state: SampleState
    retract_requested: bool
    replaced_by: str | None

    @property
    def may_return(self) -> bool:
        """See `may_return`."""
        return may_return(self.state, self.replaced_by)


def may_return(state: SampleState, replaced_by: str | None) -> bool:
    """Whether a version that is promoted by force may make a sample `learned` again.

    It may not where the client took the sample back, a reviewer discarded it, or an operator retired its label.
    """
    if state is SampleState.RETRACTED:
        return replaced_by is not None
    return state in (SampleState.QUEUED, SampleState.QUARANTINED, SampleState.DEAD)


@dataclass(frozen=True, slots=True)
class Move:
    """The state that a sample gets, and why: `reason` is a sentence, `replaced_by` the newer sample of its text, `kind`
    what put it into quarantine.
    """

    state: SampleState
    reason: str
    kind: QuarantineKind | None = None
    replaced_by: str | None = None

    @staticmethod
    def replaced(newer_id: str) -> Move:
        """The move of a sample that a newer label for its text replaces."""
        return Move(SampleState.RETRACTED, f"replaced by {newer_id}", replaced_by=newer_id)


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a client gets for one accepted item. `is_new` is false for a repeat of an active sample.

    `label` is the label that was stored where it is not the item's (cleaned, renamed or merged), else None.
    `warnings` are sentences about what was not done as sent, or is probably a mistake. `replaces` is the former label
    of the text where the item changes it.
    """

    id: str
    state: SampleState
    is_new: bool
    label: str | None = None
    warnings: tuple[str, ...] = ()
    replaces: str | None = None


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples are asked for: of these tasks (None is all), in these states, changed since then."""

    tasks: Sequence[str] | None = None
    states: Sequence[SampleState] = ACTIVE_STATES
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Backlog:
    """Samples waiting to be learned."""

    length: int
    oldest_at: datetime | None


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The client's key and the hex SHA-256 of the body it came with."""

    key: str
    body_digest: str

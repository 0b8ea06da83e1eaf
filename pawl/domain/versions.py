"""Versions: numbers that are never reused, what they are made of, and who made them. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Literal

from pawl.domain.labels import LabelChange
from pawl.domain.quarantine import Doubt, QuarantineKind
from pawl.json_values import Json

CONSOLIDATION_ASKED = "consolidation_asked"
"""Type of the event with which somebody asks for a consolidation; the next start meets all that came before it."""
CONSOLIDATION_STARTED = "consolidation_started"


class VersionKind(StrEnum):
    """How a version came to be."""

    BOOTSTRAP = "bootstrap"
    HEAD = "head"
    CONSOLIDATION = "consolidation"
    ENCODER = "encoder"
    ROLLBACK = "rollback"
    IMPORT = "import"


class VersionState(StrEnum):
    """`live` is held by exactly one version; `refused` ones never served."""

    LIVE = "live"
    RETIRED = "retired"
    REFUSED = "refused"


class LedgerAction(StrEnum):
    """What a version did with a sample. `encoder` means the encoder's weights were trained on it."""

    LEARN = "learn"
    UNLEARN = "unlearn"
    ENCODER = "encoder"


HeadName = Literal["semantic", "lexical"]
"""The heads that a task can have: on the encoder's features, and on the words and characters of the text."""
SEMANTIC_HEAD: HeadName = "semantic"
LEXICAL_HEAD: HeadName = "lexical"


@dataclass(frozen=True, slots=True)
class LexicalInfo:
    """One task's lexical head as a version names it.

    digest       SHA-256 of its file.
    size         numbers that a text's words and characters are hashed to.
    temperature  of the answers that it gives alone.
    words        how many times it counts in the pair once both heads' scores have one scale.
    semantic     the semantic head's share of the pair's scores; 0 where there is no encoder.
    lexical      its own share; the two add up to 1.
    threshold    the margin from which on it answers alone, without the encoder; None: never.
    share        of the leave-one-out items, how many it answers alone, in [0, 1].
    loss         points that the threshold may cost, as it was set (`PAWL_FAST_ANSWERS_LOSS`); None: off.
    """

    digest: str
    size: int
    temperature: float
    words: float
    semantic: float
    lexical: float
    threshold: float | None = None
    share: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """One task's heads as a version names them.

    digest       SHA-256 of the semantic head's file.
    labels       in the order of the columns of both heads.
    temperature  of the pair; of the semantic head where there is no lexical one.
    lexical      the lexical head; None where there is none.
    """

    digest: str
    labels: tuple[str, ...]
    temperature: float
    lexical: LexicalInfo | None = None

    @staticmethod
    def from_json(value: Json) -> HeadInfo:
        """Parses what `dataclasses.asdict` made of one; `KeyError`, `TypeError` or `ValueError` where it is odd."""
        lexical = value["lexical"]
        return HeadInfo(
            str(value["digest"]),
            tuple(map(str, value["labels"])),
            float(value["temperature"]),
            None if lexical is None else _lexical_info(lexical),
        )


def _lexical_info(value: Json) -> LexicalInfo:
    threshold, share, loss = (
        None if value[name] is None else float(value[name]) for name in ("threshold", "share", "loss")
    )
    temperature, words, semantic, lexical = (
        float(value[name]) for name in ("temperature", "words", "semantic", "lexical")
    )
    return LexicalInfo(
        digest=str(value["digest"]),
        size=int(value["size"]),
        temperature=temperature,
        words=words,
        semantic=semantic,
        lexical=lexical,
        threshold=threshold,
        share=share,
        loss=loss,
    )


@dataclass(frozen=True, slots=True)
class NewVersion:
    """A candidate, with all that is known of it before the ledger gives it its number's row."""

    number: int
    parent: int | None
    kind: VersionKind
    trigger: str
    encoder_digest: str
    heads: dict[str, HeadInfo]
    manifest_digest: str
    size_bytes: int
    samples_new: int = 0
    samples_replayed: int = 0
    watermark: int = 0
    metrics: Json = field(default_factory=dict)
    gate: Json = field(default_factory=dict)
    promoted_by: str = "worker"
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Version:
    """A row of the lineage. `watermark` is the largest sample `seq` it has learned."""

    number: int
    parent: int | None
    kind: VersionKind
    trigger: str
    state: VersionState
    encoder_digest: str
    heads: dict[str, HeadInfo]
    manifest_digest: str
    size_bytes: int
    samples_new: int
    samples_replayed: int
    watermark: int
    metrics: Json
    gate: Json
    promoted_by: str
    reason: str | None
    created_at: datetime
    promoted_at: datetime | None
    artefacts_kept: bool

    @property
    def labels(self) -> dict[str, tuple[str, ...]]:
        """Labels per task, in the order of the head's columns."""
        return {task: head.labels for task, head in self.heads.items()}


@dataclass(frozen=True, slots=True)
class LedgerRow:
    """One line of the ledger: which version did what with which sample."""

    version: int
    sample_id: str
    action: LedgerAction


def has_reweighted(rows: list[LedgerRow]) -> bool:
    """Whether a version took a sample out and learned it again: its weight is another one since."""
    # Within one version: out in one and in again in a later one is a roll-back, or a label that came back.
    done = {(row.version, row.sample_id, row.action) for row in rows}
    return any(
        (version, id, LedgerAction.UNLEARN) in done for version, id, action in done if action is LedgerAction.LEARN
    )


@dataclass(frozen=True, slots=True)
class LedgerChange:
    """All that one promotion writes besides the version row; one transaction with it.

    learned     ids that go from `queued` to `learned`, and get a `learn` row.
    unlearned   id -> reason; learned ids that leave the head (taken back by the client, or with their label, task or
                source), get an `unlearn` row and the state `retracted`.
    replaced    id -> id of the newer sample; learned ids that leave the head for another label of their text, get an
                `unlearn` row and the state `retracted`.
    dropped     id -> id of the newer sample; queued ids that never enter, because another label for their text came
                before they were learned; state `retracted`.
    quarantined id -> reason; from `queued` to `quarantined`; or, in a roll-back, from `learned` (with an
                `unlearn` row).
    trained     ids the encoder was trained on; `encoder` rows.
    label       a requested change of a label that the version carries out: active samples get its new name or, where
                it is retired, leave (the learned ones are in `unlearned`).
    kinds       id -> what put a quarantined one there; without one `rollback` in a roll-back, else `gate`.
    doubts      id -> what spoke against a learned or quarantined one when it came.
    emphasis    id -> emphasis of those of `learned` that have one; 1 for the others.
    back_to     a roll-back's target: what it had learned and a label of `quarantined` has replaced since is queued
                again.
    restored    ids that a forced version has learned and the live one has not: from any state but `learned`, unless
                their client, a reviewer or an operator has taken them out, to `learned`, with a `learn` row.
    requeued    id -> reason; learned since a forced version was refused: from `learned` to `queued` (with an `unlearn`
                row), so that they are learned on top of it.
    reweighted  ids that a forced version and the live one have both learned, with another emphasis: they stay learned,
                with an `unlearn` and a `learn` row.
    weighed     id -> the emphasis that those of `restored` and `reweighted` have from now on that had another.
    """

    learned: tuple[str, ...] = ()
    unlearned: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    quarantined: dict[str, str] = field(default_factory=dict)
    trained: tuple[str, ...] = ()
    label: LabelChange | None = None
    kinds: dict[str, QuarantineKind] = field(default_factory=dict)
    doubts: dict[str, Doubt] = field(default_factory=dict)
    emphasis: dict[str, float] = field(default_factory=dict)
    back_to: int | None = None
    restored: tuple[str, ...] = ()
    requeued: dict[str, str] = field(default_factory=dict)
    reweighted: tuple[str, ...] = ()
    weighed: dict[str, float] = field(default_factory=dict)


class RefusedAction(StrEnum):
    """What a refused version would have done with a sample."""

    LEARN = "learn"
    UNLEARN = "unlearn"
    DROP = "drop"
    QUARANTINE = "quarantine"
    ENCODER = "encoder"


@dataclass(frozen=True, slots=True)
class RefusedRow:
    """One line of what a refused version would have changed; see `LedgerChange` for what the actions mean.

    `emphasis` is that of a sample it would have learned, `reason` and `replaced_by` those of one that would have left,
    `kind` what would have put it into quarantine.
    """

    version: int
    sample_id: str
    action: RefusedAction
    emphasis: float = 1.0
    reason: str | None = None
    kind: QuarantineKind | None = None
    replaced_by: str | None = None


def refused_rows(version: int, change: LedgerChange, emphasis: Mapping[str, float]) -> list[RefusedRow]:
    """A change that was not made, as it is kept: each sample once for each action.

    `emphasis` is what those that it would have learned have now, which its own multiplies.
    """
    rows = [
        RefusedRow(version, id, RefusedAction.LEARN, emphasis.get(id, 1.0) * change.emphasis.get(id, 1.0))
        for id in dict.fromkeys(change.learned)
    ]
    rows += [RefusedRow(version, id, RefusedAction.UNLEARN, reason=why) for id, why in change.unlearned.items()]
    for action, replaced in ((RefusedAction.UNLEARN, change.replaced), (RefusedAction.DROP, change.dropped)):
        rows += [RefusedRow(version, id, action, replaced_by=newer) for id, newer in replaced.items()]
    rows += [
        RefusedRow(version, id, RefusedAction.QUARANTINE, reason=why, kind=change.kinds.get(id, QuarantineKind.GATE))
        for id, why in change.quarantined.items()
    ]
    return rows + [RefusedRow(version, id, RefusedAction.ENCODER) for id in dict.fromkeys(change.trained)]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, in order. `id` grows; `payload` is JSON."""

    id: int
    type: str
    payload: Json
    created_at: datetime

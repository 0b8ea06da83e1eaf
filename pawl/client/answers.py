"""What a client sends and is answered, as frozen values. `app/schemas` has the same from the service's side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pawl.domain.predictions import AnsweredBy, LabelScore
from pawl.domain.samples import SampleState
from pawl.domain.versions import VersionKind, VersionState
from pawl.json_values import Json


@dataclass(frozen=True, slots=True)
class TextPrediction:
    """The answer for one text. `novelty` in [0, 1] is the share of the task's known texts that are less unusual."""

    id: str | None
    """What feedback names it by; None where the service does not log predictions."""
    label: str
    score: float
    scores: tuple[LabelScore, ...]
    """The best labels, best first."""
    novelty: float
    by: AnsweredBy
    """Which heads spoke."""
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PredictionBatch:
    """Answers in the order of the texts, all from one version."""

    version: int
    predictions: tuple[TextPrediction, ...]


@dataclass(frozen=True, slots=True)
class Correction:
    """The right label of a text, or of a prediction by its id; give one of both. `task` goes with `text`."""

    label: str
    text: str | None = None
    prediction_id: str | None = None
    task: str | None = None
    create_task: bool = False
    source: str | None = None
    weight: float | None = None


@dataclass(frozen=True, slots=True)
class FeedbackReceipt:
    """One accepted piece of feedback. `label` is there where it was taken for another label than the one sent."""

    id: str
    state: SampleState
    label: str | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class FeedbackStatus:
    """Where a piece of feedback is: `learned_in_version` once it is learned, else `reason` if it cannot be."""

    id: str
    state: SampleState
    task: str
    label: str
    reason: str | None
    learned_in_version: int | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class LiveModel:
    """What serves: None and no tasks before the first version. `tasks` holds the labels of each."""

    version: int | None
    kind: VersionKind | None
    tasks: Mapping[str, tuple[str, ...]]
    serving_since: datetime | None
    encoder_digest: str | None
    contradictions: tuple[str, ...]
    """Settings that ask for other than what serves."""


@dataclass(frozen=True, slots=True)
class ListedVersion:
    """One version of the lineage; a refused one was never live."""

    number: int
    parent: int | None
    kind: VersionKind
    trigger: str
    state: VersionState
    samples_new: int
    promoted_by: str
    reason: str | None
    created_at: datetime
    promoted_at: datetime | None
    artefacts_kept: bool
    metrics: Json = field(default_factory=dict)

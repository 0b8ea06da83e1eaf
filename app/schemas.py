"""What goes over the wire. Requests are strict and refuse unknown fields; responses are documented here and are
written by the routes.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from app.core.domain.samples import DEFAULT_TASK, SampleState
from app.core.domain.versions import VersionKind, VersionState

_MOST_ITEMS = 10_000  # `max_texts` is the limit that counts; this one bounds the work of refusing
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
TASK_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


def _encodable(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise ValueError("it holds a lone surrogate, which is no character") from None
    return value


def _text(value: str) -> str:
    if not value or value.isspace():
        raise ValueError("it is empty")
    if "\0" in value:
        raise ValueError("it holds a NUL character")
    return _encodable(value)


def _line(value: str) -> str:
    value = _encodable(value).strip()
    if not 1 <= len(value) <= 200:
        raise ValueError("it must have 1 to 200 characters besides outer spaces")
    if _CONTROL.search(value):
        raise ValueError("it holds a control character")
    return value


Text = Annotated[
    str,
    AfterValidator(_text),
    Field(min_length=1, description="Any length up to the body limit; the model reads the first `max_tokens` tokens."),
]
Line = Annotated[str, AfterValidator(_line), Field(min_length=1)]
Task = Annotated[str, Field(pattern=TASK_PATTERN, description="Label set; several share one encoder.")]


class _Request(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PredictRequest(_Request):
    """Texts to label: `texts`, or `text` for one."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "where is my card?"},
                {"texts": ["where is my card?", "I was charged twice"], "top_k": 3},
                {"text": "where is my card?", "min_version": 13, "wait_ms": 2000},
            ]
        }
    )

    text: Text | None = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=_MOST_ITEMS)] | None = None
    task: Task = DEFAULT_TASK
    top_k: int = Field(default=1, ge=1, description="Best labels to return; beyond the number of labels, all.")
    min_version: int | None = Field(default=None, ge=1, description="Answer from this version or a later one.")
    wait_ms: int = Field(default=0, ge=0, description="How long to wait for `min_version` before a 409.")

    @model_validator(mode="after")
    def _one_form(self) -> PredictRequest:
        if (self.text is None) == (self.texts is None):
            raise ValueError("give either `text` or `texts`")
        return self

    @property
    def all_texts(self) -> list[str]:
        """The texts in either form."""
        return self.texts if self.texts is not None else [self.text or ""]


class FeedbackItem(_Request):
    """The right label of a text, or of a prediction by its id."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"text": "where is my card?", "label": "card_arrival"},
                {"prediction_id": "pr_0199b6c2a4d87c0e8f3b5a6d7e8f9012", "label": "card_arrival"},
            ]
        }
    )

    label: Line
    text: Text | None = None
    task: Task | None = Field(default=None, description=f"With `text`; default `{DEFAULT_TASK}`.")
    prediction_id: Line | None = Field(default=None, description="Text and task are taken from the prediction.")
    source: Line | None = Field(default=None, description="Who says so, e.g. `reviewer-7`.")
    weight: float = Field(default=1.0, gt=0, le=100, allow_inf_nan=False, description="How many labels it counts as.")

    @model_validator(mode="after")
    def _one_form(self) -> FeedbackItem:
        if (self.text is None) == (self.prediction_id is None):
            raise ValueError("give either `text` or `prediction_id`")
        if self.task is not None and self.prediction_id is not None:
            raise ValueError("`task` goes with `text`; a prediction has its own")
        return self


class FeedbackBatch(_Request):
    """Several items, accepted all or none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"text": "where is my card?", "label": "card_arrival"}]}]}
    )

    items: list[FeedbackItem] = Field(min_length=1, max_length=_MOST_ITEMS)


def _form(value: Any) -> str:
    return "batch" if isinstance(value, dict) and "items" in value else "item"


FeedbackRequest = Annotated[
    Annotated[FeedbackItem, Tag("item")] | Annotated[FeedbackBatch, Tag("batch")], Discriminator(_form)
]


class PromoteRequest(_Request):
    """Why an older or refused version should serve; it is kept with the new version."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "version 12 confuses refunds"}]})

    reason: Line


class LabelScoreOut(BaseModel):
    """One label and its calibrated probability."""

    label: str
    score: float


class PredictionOut(BaseModel):
    """The answer for one text. `novelty` in [0, 1] is the share of known texts that are less unusual."""

    id: str | None = Field(description="Name it in feedback; null where predictions are not logged.")
    label: str
    score: float
    scores: list[LabelScoreOut]
    novelty: float


class PredictResponse(BaseModel):
    """Answers in the order of the texts, all from one version."""

    version: int
    predictions: list[PredictionOut]


class ReceiptOut(BaseModel):
    """One accepted item."""

    id: str
    state: SampleState


class FeedbackResponse(BaseModel):
    """Receipts in the order of the items."""

    items: list[ReceiptOut]


class FeedbackOut(BaseModel):
    """Where a piece of feedback is."""

    id: str
    state: SampleState
    reason: str | None
    learned_in_version: int | None
    retract_requested: bool
    task: str
    label: str
    weight: float
    source: str | None
    prediction_id: str | None
    served_version: int | None
    served_label: str | None
    created_at: datetime
    updated_at: datetime


class RetractionOut(FeedbackOut):
    """The feedback as it is now, and the versions whose encoder was trained on it."""

    versions_trained_on: list[int]


class QueueOut(BaseModel):
    """Feedback waiting to be learned."""

    length: int
    oldest_age_seconds: float | None


class LearnerOut(BaseModel):
    """The learner's last word."""

    state: str
    alive: bool
    heartbeat_at: datetime
    details: dict[str, Any]


class ModelOut(BaseModel):
    """What serves here, and how learning goes; `queue` and `learner` are null while the database is away."""

    version: int
    kind: VersionKind
    serving_since: datetime
    encoder_digest: str
    tasks: dict[str, list[str]] = Field(description="Labels per task.")
    queue: QueueOut | None
    learner: LearnerOut | None


class HeadOut(BaseModel):
    """One task's head."""

    digest: str
    labels: list[str]
    temperature: float


class VersionSummary(BaseModel):
    """One version of the lineage."""

    number: int
    parent: int | None
    kind: VersionKind
    trigger: str
    state: VersionState
    samples_new: int
    samples_replayed: int
    metrics: dict[str, Any]
    promoted_by: str
    reason: str | None
    created_at: datetime
    promoted_at: datetime | None
    size_bytes: int
    artefacts_kept: bool


class VersionOut(VersionSummary):
    """One version, with its digests and its full gate report."""

    encoder_digest: str
    manifest_digest: str
    watermark: int
    heads: dict[str, HeadOut]
    gate: dict[str, Any]


class VersionPage(BaseModel):
    """Versions newest first; `next` is the `before` of the following page, null at the end."""

    items: list[VersionSummary]
    next: int | None


class ConsolidationOut(BaseModel):
    """The request is with the learner; follow it in `/v1/events`."""

    state: Literal["asked"]


class StatusOut(BaseModel):
    """Health."""

    status: str
    version: int | None = None

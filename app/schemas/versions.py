"""`/v1/model`, `/v1/versions`, consolidations and health."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from app.schemas.fields import Line, StrictBody
from pawl.domain.versions import VersionKind, VersionState
from pawl.processes.parts import PartState


class PromoteRequest(StrictBody):
    """Why an older or refused version should serve; it is kept with the new version. A dry run needs none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"reason": "version 12 confuses refunds"}, {"dry_run": True}]}
    )

    # Above `reason`, whose validator sees only the fields before it.
    dry_run: bool = Field(default=False, description="Only say what it would do.")
    reason: Line | None = Field(default=None, validate_default=True)

    @field_validator("reason")
    @classmethod
    def _is_given(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is None and not info.data.get("dry_run"):
            raise ValueError("it is needed, but for a dry run")
        return value


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
    problem: str | None = Field(description="What keeps it from its work; what waits is learned once that is over.")


class PartOut(BaseModel):
    """A process that `pawl up` keeps alive. `failures` counts its ends in a row; it is 0 once it has recovered."""

    name: str
    state: PartState
    well: bool
    since: datetime
    restarts: int
    failures: int
    last_end: str | None
    next_start: datetime | None


class WordsOut(BaseModel):
    """What a task's lexical head does: how much it counts, and which texts it answers without the encoder."""

    words: float = Field(description="How many times it counts once both heads' scores have one scale.")
    semantic: float = Field(description="The semantic head's share of the scores; 0 where there is no encoder.")
    lexical: float = Field(description="The lexical head's share of the scores.")
    threshold: float | None = Field(description="The margin from which on it answers alone; null: never.")
    share: float | None = Field(description="Of the texts it was measured on, how many it answers alone, in [0, 1].")
    loss: float | None = Field(description="Points of accuracy that answering alone may cost; null where it is off.")


class LexicalHeadOut(WordsOut):
    """One task's lexical head."""

    digest: str
    size: int = Field(description="Numbers that words and characters are hashed to.")
    temperature: float


class ModelOut(BaseModel):
    """What serves here, and how learning goes. Before the first version the fields about it are null.

    `queue` and `learner` are from the database as of `as_of`, `age_seconds` ago: more than a moment only while it does
    not answer. They and `as_of` are null where it never has.
    """

    version: int | None
    kind: VersionKind | None
    serving_since: datetime | None
    encoder_digest: str | None
    tasks: dict[str, list[str]] = Field(description="Labels per task.")
    words: dict[str, WordsOut] = Field(description="Of the tasks that have a lexical head, what it does.")
    contradictions: list[str] = Field(description="Settings that ask for other than what serves, and what to do.")
    queue: QueueOut | None
    learner: LearnerOut | None
    version_problem: str | None = Field(description="Why the live version does not serve here, where it does not.")
    parts: list[PartOut] = Field(description="What `pawl up` keeps alive; empty where it does not run here.")
    transport: Literal["redis", "sql"] = Field(description="What brings feedback to the learner; `sql`: no Redis.")
    transport_problem: str | None = Field(description="Why Redis does not carry it now; the sweep does, later.")
    as_of: datetime | None
    age_seconds: float | None


class HeadOut(BaseModel):
    """One task's heads: the semantic one's digest, the labels, the temperature of both together."""

    digest: str
    labels: list[str]
    temperature: float
    lexical: LexicalHeadOut | None = Field(description="Null where the task has none.")


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


class MovedOut(BaseModel):
    """Labels that a promotion moves: how many by state afterwards and by task and class, and the first ids."""

    count: int
    states: dict[str, int]
    classes: dict[str, dict[str, int]]
    ids: list[str]
    ids_left_out: int


class EffectOut(BaseModel):
    """What a promotion does to the labels. `stays_out` are in the model's files, and out again with the next head
    update: their clients or a reviewer took them out for good.
    """

    takes_away: MovedOut
    brings_back: MovedOut
    stays_out: MovedOut


class PromotedOut(VersionOut):
    """The new version, and what making it live did."""

    effect: EffectOut


class PreviewOut(BaseModel):
    """What promoting the target would do now, in place of the live version."""

    dry_run: Literal[True] = True
    target: int
    kind: Literal["forced", "rollback"]
    live: int | None
    effect: EffectOut


class VersionPage(BaseModel):
    """Versions newest first; `next` is the `before` of the following page, null at the end."""

    items: list[VersionSummary]
    next: int | None


class ConsolidationOut(BaseModel):
    """The request is with the learner; follow it in `/v1/events`."""

    state: Literal["asked"]


class StatusOut(BaseModel):
    """Health. `version` is null, and `detail` says what to do, where nothing was ever learned."""

    status: str
    version: int | None = None
    detail: str | None = None

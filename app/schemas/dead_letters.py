"""`/v1/dead-letters`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.fields import Line, StrictBody
from pawl.domain.dead_letters import DeadLetterAction
from pawl.domain.predictions import AnsweredBy
from pawl.domain.samples import SampleState


class DeadLetterRequest(StrictBody):
    """What to do with a label that could not be learned, and why; both are kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"action": "redrive", "reason": "the fault in the encoder is mended"}]}
    )

    # JSON has no enums, and everything else stays strict
    action: DeadLetterAction = Field(strict=False, description="`redrive`: try to learn it again. `discard`: never.")
    reason: Line
    by: Line | None = Field(default=None, description="Who decides, for the audit log; default `api`.")


class DeadLetterOut(BaseModel):
    """A label that could not be learned; `reason` is the error."""

    id: str
    state: SampleState
    reason: str | None
    task: str
    text: str
    label: str
    source: str | None
    weight: float
    served_version: int | None
    served_label: str | None
    served_by: AnsweredBy | None
    created_at: datetime
    updated_at: datetime


class DeadLetterPage(BaseModel):
    """Newest first; `next` is the `before` of the following page, null at the end; `count` is of all there are."""

    items: list[DeadLetterOut]
    next: int | None
    count: int

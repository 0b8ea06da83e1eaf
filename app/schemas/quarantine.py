"""`/v1/quarantine`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.fields import Line, StrictBody
from pawl.domain.predictions import AnsweredBy
from pawl.domain.quarantine import QuarantineKind, ReviewAction
from pawl.domain.samples import SampleState


class ReviewRequest(StrictBody):
    """What to do with a quarantined label, and why; both are kept."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"action": "release", "reason": "checked, the label is right"}]}
    )

    # JSON has no enums, and everything else stays strict
    action: ReviewAction = Field(strict=False, description="`release`: learn it after all. `discard`: never.")
    reason: Line
    by: Line | None = Field(default=None, description="Who decides, for the audit log; default `api`.")


class QuarantinedOut(BaseModel):
    """A label in quarantine."""

    id: str
    state: SampleState
    quarantined_by: QuarantineKind | None
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
    reviewed_at: datetime | None


class QuarantinePage(BaseModel):
    """Newest first; `next` is the `before` of the following page, null at the end."""

    items: list[QuarantinedOut]
    next: int | None
    counts: dict[QuarantineKind, int] = Field(description="All that is in quarantine, by what put it there.")

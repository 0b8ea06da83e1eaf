"""`/v1/labels`."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.schemas.fields import Label, Line, StrictBody, Task, exactly_one
from pawl.domain.labels import LabelChangeKind, LabelChangeState, LabelState
from pawl.domain.samples import DEFAULT_TASK


class NewLabel(StrictBody):
    """A label that should exist before its first sample, or come back after it was retired."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"name": "gift_voucher"}]})

    name: Label
    task: Task = DEFAULT_TASK
    create_task: bool = Field(default=False, description="The task may be one that is not there yet.")
    reason: Line | None = Field(default=None, description="Why; kept with the change.")


class LabelPatch(StrictBody):
    """A new `name`, or another label to `merge_into`."""

    model_config = ConfigDict(
        json_schema_extra=exactly_one(
            "name",
            "merge_into",
            examples=[
                {"name": "card_delivery", "reason": "says what it is"},
                {"merge_into": "card_arrival", "reason": "nobody can tell them apart"},
            ],
        )
    )

    name: Label | None = None
    merge_into: Label | None = None
    reason: Line | None = Field(default=None, description="Why; kept with the version.")

    @model_validator(mode="after")
    def _one_form(self) -> LabelPatch:
        if (self.name is None) == (self.merge_into is None):
            raise ValueError("give either `name` or `merge_into`")
        return self


class LabelOut(BaseModel):
    """One label. `now` is the label that a renamed or merged one stands for in feedback."""

    name: str
    state: LabelState
    now: str | None
    since_version: int | None = Field(
        description="The version that carried the decision out or, without one, that learned its oldest sample."
    )
    reason: str | None
    samples: dict[str, int] = Field(description="Samples by state: queued, learned, quarantined, golden.")
    pending: str | None = Field(description="Id of a change that waits for the learner.")


class ProbablyTheSame(BaseModel):
    """Two active labels that differ only by case, white space or the width of their characters."""

    label: str
    into: str
    command: str = Field(description="What makes them one.")


class LabelPage(BaseModel):
    """The labels of a task, by name."""

    task: str
    items: list[LabelOut]
    probably_the_same: list[ProbablyTheSame] = Field(description="The one with fewer samples first.")


class LabelChangeOut(BaseModel):
    """A change of a label or, where `label` is empty, of a task (`kind` `drop`; `target`: one source, or null for all).

    `version` carried it out; null where no head was concerned.
    """

    id: str
    kind: LabelChangeKind
    task: str
    label: str
    target: str | None
    reason: str | None
    state: LabelChangeState
    version: int | None
    problem: str | None = Field(description="Why it failed.")
    requested_at: datetime
    settled_at: datetime | None
    warnings: list[str] | None = Field(
        default=None, description="In the answer to the request alone, where the name is probably another label's."
    )

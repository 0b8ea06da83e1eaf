"""`/v1/feedback`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

from app.schemas.fields import MOST_ITEMS, Line, StrictBody, Task, Text, exactly_one
from pawl.domain.forms import LEAST_WEIGHT, MOST_WEIGHT
from pawl.domain.predictions import AnsweredBy
from pawl.domain.samples import DEFAULT_TASK, SampleState

LABEL = "1 to 200 characters; kept in NFC, without surrounding white space and invisible characters."


class FeedbackItem(StrictBody):
    """The right label of a text, or of a prediction by its id."""

    model_config = ConfigDict(
        json_schema_extra=exactly_one(
            "text",
            "prediction_id",
            examples=[
                {"text": "where is my card?", "label": "card_arrival"},
                {"prediction_id": "pr_0199b6c2a4d87c0e8f3b5a6d7e8f9012", "label": "card_arrival"},
            ],
        )
    )

    label: str = Field(min_length=1, description=LABEL)
    text: Text | None = None
    task: Task | None = Field(default=None, description=f"With `text`; default `{DEFAULT_TASK}`.")
    prediction_id: Line | None = Field(default=None, description="Text and task are taken from the prediction.")
    create_task: bool = Field(default=False, description="With `text`: the task may be one that is not there yet.")
    source: str | None = Field(default=None, description="Who says so, e.g. `reviewer-7`; 1 to 200 characters.")
    weight: float | None = Field(
        default=None,
        description="How many labels it counts as. Default: 1 or, for a text and label that are known, what they have.",
        json_schema_extra={"minimum": LEAST_WEIGHT, "maximum": MOST_WEIGHT},
    )

    @model_validator(mode="after")
    def _one_form(self) -> FeedbackItem:
        if (self.text is None) == (self.prediction_id is None):
            raise ValueError("give either `text` or `prediction_id`")
        if self.task is not None and self.prediction_id is not None:
            raise ValueError("`task` goes with `text`; a prediction has its own")
        if self.create_task and self.prediction_id is not None:
            raise ValueError("`create_task` goes with `text`; a prediction has a task")
        return self


class FeedbackBatch(StrictBody):
    """Several items, accepted all or none."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"items": [{"text": "where is my card?", "label": "card_arrival"}]}]}
    )

    items: list[FeedbackItem] = Field(min_length=1, max_length=MOST_ITEMS)


def _form(value: Any) -> str:
    return "batch" if isinstance(value, dict) and "items" in value else "item"


FeedbackRequest = Annotated[
    Annotated[FeedbackItem, Tag("item")] | Annotated[FeedbackBatch, Tag("batch")], Discriminator(_form)
]


class ReceiptOut(BaseModel):
    """One accepted item. `label` is there only where it is not the item's own: what that was taken for (cleaned,
    renamed, merged); `warnings` only where something stays as it was or is probably a mistake.
    """

    id: str
    state: SampleState
    label: str | None = None
    warnings: list[str] | None = None


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
    served_by: AnsweredBy | None
    created_at: datetime
    updated_at: datetime


class FeedbackReadOut(FeedbackOut):
    """... and, where there is such, what keeps the encoder from reading its text: see `warnings` of a prediction.

    `cannot_hold: ...`: to the encoder the text is the same as another one with another label.
    """

    warnings: list[str] = []


class RetractionOut(FeedbackOut):
    """The feedback as it is now, and the versions whose encoder was trained on it."""

    versions_trained_on: list[int]

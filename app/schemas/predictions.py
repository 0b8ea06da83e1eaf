"""`/v1/predict`."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from app.schemas.fields import MOST_ITEMS, StrictBody, Task, Text, exactly_one
from pawl.domain.predictions import AnsweredBy
from pawl.domain.samples import DEFAULT_TASK


class PredictRequest(StrictBody):
    """Texts to label: `texts`, or `text` for one."""

    model_config = ConfigDict(
        json_schema_extra=exactly_one(
            "text",
            "texts",
            examples=[
                {"text": "where is my card?"},
                {"texts": ["where is my card?", "I was charged twice"], "top_k": 3},
                {"text": "where is my card?", "min_version": 13, "wait_ms": 2000},
            ],
        )
    )

    text: Text | None = None
    texts: Annotated[list[Text], Field(min_length=1, max_length=MOST_ITEMS)] | None = None
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


class LabelScoreOut(BaseModel):
    """One label and its calibrated probability."""

    label: str
    score: float


class PredictionOut(BaseModel):
    """The answer for one text. `novelty` in [0, 1] is the share of the task's known texts that are less unusual."""

    id: str | None = Field(description="Name it in feedback; null where predictions are not logged.")
    label: str
    score: float
    scores: list[LabelScoreOut]
    novelty: float
    by: AnsweredBy = Field(
        description="`words`: the lexical head alone, which was sure enough; `meaning`: the semantic head alone; "
        "`both`: the two of them."
    )
    warnings: list[str] = Field(
        default=[],
        description="Left out where there is none, and where words alone answered. `truncated`: the text has more "
        "tokens than the encoder takes. `unknown_language: ...`: the encoder does not know more than one in twenty of "
        "its tokens.",
    )


class PredictResponse(BaseModel):
    """Answers in the order of the texts, all from one version."""

    version: int
    predictions: list[PredictionOut]

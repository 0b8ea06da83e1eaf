"""`/v1/encoder`."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from app.schemas.fields import Line, StrictBody
from pawl.domain.encoders import EncoderRequestState


class EncoderAsked(StrictBody):
    """Another encoder, and why."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"encoder": "multilingual", "reason": "customers write in Chinese"}]}
    )

    encoder: Annotated[str, Field(min_length=1, max_length=1000)] = Field(
        description="`small`, `base`, `multilingual`, `none`, a folder on the learner's machine, or a hub id."
    )
    prefix: str | None = Field(default=None, max_length=1000, description="Put before every text.")
    reason: Line | None = Field(default=None, description="Kept in the lineage.")
    accept: Line | None = Field(
        default=None, description="Why it is to serve even if the gate finds it worse; kept in its report."
    )


class EncoderRequestOut(BaseModel):
    """A request for another encoder and what became of it. `report` is how it compares with the one before, by task."""

    id: str
    choice: dict[str, Any]
    reason: str | None
    accept: str | None
    state: EncoderRequestState
    version: int | None
    problem: str | None
    report: dict[str, Any]
    requested_at: datetime
    settled_at: datetime | None


class EncoderOut(BaseModel):
    """The encoder that serves. `made_with` is what was chosen before any training; null where it is not known."""

    version: int
    encoder_digest: str
    dimension: int
    max_tokens: int = Field(description="Tokens it reads of a text; what comes after them it does not see.")
    pooling: str = Field(description="How an embedding is made of tokens; `none` where there is no encoder.")
    layers: int
    precision: str
    prefix: str
    made_with: dict[str, Any] | None
    request: EncoderRequestOut | None = Field(description="The newest request for another one.")
    contradictions: list[str] = Field(description="Settings that ask for other than what serves, and what to do.")

"""`/v1/tasks`."""

from __future__ import annotations

from pydantic import BaseModel, Field


class TaskOut(BaseModel):
    """One task."""

    name: str
    labels: int = Field(description="Labels with samples.")
    samples: dict[str, int] = Field(description="Samples by state: queued, learned, quarantined, golden.")
    served: bool = Field(description="Whether the live version answers for it.")
    pending: str | None = Field(description="Id of a request to drop it, or what a source said in it.")


class TaskList(BaseModel):
    """The tasks by name."""

    items: list[TaskOut]

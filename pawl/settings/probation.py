"""Settings of the probation (ADR 0009)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ProbationSettings(BaseModel):
    """A part of `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    probation_window: int = Field(default=500, ge=0, le=100_000)
    """Arriving labels over which the live version is compared with earlier ones; 0 turns probation off."""
    probation_alpha: float = Field(default=1e-4, gt=0.0, lt=1.0)
    """Significance at which a version fails (exact binomial, one-sided); strict: it is looked at with every batch."""
    probation_items: int = Field(default=20, ge=1)
    """Labels on which live and earlier version differ before anything is said."""
    probation_confirmed: float = Field(default=0.3, ge=0.0, le=1.0)
    """Share of arriving labels that must confirm the answer; below it the feedback is a choice of mistakes, and nothing
    is said.
    """

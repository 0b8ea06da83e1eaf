"""Settings of the screen before the gate (ADR 0008); chosen on training splits, see `docs/log.md`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class QuarantineSettings(BaseModel):
    """A part of `Settings`."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    quarantine_window: int = Field(default=2000, ge=0, le=100_000)
    """Newest feedback of a task that the screen before the gate looks at together; 0 turns the screen off."""
    quarantine_margin: float = Field(default=0.2, ge=0.0, le=2.0)
    """How far (in scores of the head, about 0 to 1) a label must be behind the head's answer to be opposed by it."""
    quarantine_neighbours: int = Field(default=5, ge=1, le=100)
    """Nearest learned samples asked about a label; more than half of them must back the head for it to be opposed."""
    quarantine_established: int = Field(default=16, ge=1)
    """Learned samples from which on a label can oppose or be opposed; younger classes take from old ones by right."""
    quarantine_flow_floor: int = Field(default=6, ge=2)
    """Opposed labels from one label to another below which no flow is held."""
    quarantine_flow_cap: int = Field(default=0, ge=0)
    """Opposed labels from one label to another at which a flow is held without a test; 0 leaves it to the test."""
    quarantine_alpha: float = Field(default=0.01, gt=0.0, lt=1.0)
    """Significance of the test of a flow (exact binomial, one-sided, Bonferroni over pairs of labels and sources)."""
    quarantine_duplicates: int = Field(default=5, ge=2)
    """Near-identical opposed texts with one label at which they are held."""
    quarantine_similarity: float = Field(default=0.95, gt=0.0, le=1.0)
    """Cosine from which on two texts are near-identical."""
    quarantine_source_trust: float = Field(default=0.5, ge=0.0, le=1.0)
    """A named source is held whole while the 95 % bound of its share of plausible labels is below this; 0: never."""
    quarantine_source_evidence: float = Field(default=20.0, gt=0.0)
    """Labels of a source before its trust is judged."""
    quarantine_source_memory: float = Field(default=100.0, gt=1.0)
    """Labels over which a source's record fades (to 1/e)."""
    conflict: Literal["newest", "quarantine"] = "newest"
    """A label for a text that another source labelled differently: `newest` replaces the older one, `quarantine` keeps
    it out until somebody has looked at it. A source may always correct itself."""

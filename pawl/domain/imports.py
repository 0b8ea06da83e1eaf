"""Imports: many rows that were accepted together, all or none. Frozen values, no I/O."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pawl.domain.samples import SampleState


@dataclass(frozen=True, slots=True)
class NewImport:
    """An import as it is handed to the store; the samples it brings name its `id` (`im_...`).

    `name` is what the person who imported calls it (the file's name), `rows` is how many it holds.
    `accept_reason` says why its owner wants it learned whatever the gate finds; None leaves that to the gate.
    `regularisation` and `temperature` are what was chosen for the task's head where its samples were exported: a first
    version made of them alone takes them over.
    """

    id: str
    task: str
    name: str
    rows: int
    accept_reason: str | None = None
    regularisation: float | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class Import:
    """A stored import."""

    id: str
    task: str
    name: str
    rows: int
    accept_reason: str | None
    created_at: datetime
    regularisation: float | None = None
    temperature: float | None = None


@dataclass(frozen=True, slots=True)
class ImportOutcome:
    """So many samples of one label that are in one state for one reason.

    `replaced`: newer labels for their texts came; then `reason` is None, because each names another sample.
    """

    task: str
    label: str
    state: SampleState
    reason: str | None
    replaced: bool
    count: int

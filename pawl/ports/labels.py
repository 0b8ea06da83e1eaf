"""What is decided about labels, and the changes that wait for the learner (SQL)."""

from __future__ import annotations

from typing import Protocol

from pawl.domain.labels import LabelChange, LabelRecord, LabelRequest, LabelSummary, TaskSummary


class LabelStore(Protocol):
    """Decisions about labels. Raises `StoreUnavailable` when the database cannot be reached.

    A change that concerns a head is carried out by the promotion that names it (`LedgerChange.label`).
    """

    async def request(self, request: LabelRequest) -> LabelChange:
        """Writes a request down, with an event. One to add a label is carried out at once.

        Raises what `check_request` raises, and `QueueFull`.
        """

    async def get(self, change_id: str) -> LabelChange:
        """One change; raises `LabelChangeNotFound`."""

    async def pending(self) -> list[LabelChange]:
        """Changes that wait, oldest first."""

    async def applied(self, after_version: int, up_to_version: int | None = None) -> list[LabelChange]:
        """Changes carried out by versions in (after, up_to], in that order."""

    async def apply(self, change_id: str) -> LabelChange:
        """Carries out a pending change that concerns no head: nothing of the label is learned.

        Raises `CandidateStale` where something is, or where the change is not pending any more.
        """

    async def fail(self, change_id: str, problem: str) -> LabelChange:
        """Settles a pending change that cannot be carried out; nothing changes but it."""

    async def records(self, task: str) -> dict[str, LabelRecord]:
        """All decisions of a task, by name."""

    async def tasks(self, source: str | None = None) -> list[TaskSummary]:
        """Every task there is, by name; with a `source`, those in which it has samples, with these alone."""

    async def summaries(self, task: str) -> list[LabelSummary]:
        """Every label of a task that has samples or was decided about, by name."""

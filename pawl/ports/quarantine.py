"""The part of the sample store that reviewers and the learner's screen use (SQL)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review
from pawl.domain.samples import Sample


class QuarantineStore(Protocol):
    """Quarantined samples: put there by the screen, taken out by reviewers."""

    async def hold(self, holds: Mapping[str, Hold], doubts: Mapping[str, Doubt]) -> int:
        """Moves queued samples (id -> why) to `quarantined`, keeps what spoke against them, writes one event.

        Returns how many moved.
        """

    async def quarantined(self, where: QuarantineFilter, before: int | None, limit: int) -> list[Sample]:
        """A page of quarantined samples, newest first, with `seq` below `before`."""

    async def quarantine_counts(self) -> dict[QuarantineKind, int]:
        """Samples in quarantine by what put them there; kinds without any are left out."""

    async def review(self, sample_id: str, review: Review) -> Sample:
        """Releases (to `queued`) or discards (to `rejected`) a quarantined sample; the event is in the transaction.

        The same decision about a sample that has left quarantine by it changes nothing. Raises `SampleNotFound`, and
        `NotQuarantined` for any other state.
        """

    async def screened(self, task: str, limit: int) -> list[Sample]:
        """The newest feedback of a task that was screened (learned, quarantined or rejected), oldest first.

        Looks no further back than 20 x `limit` samples.
        """

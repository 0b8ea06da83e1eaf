"""The in-memory twin of the quarantine in SQL."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from pawl.clock import Clock
from pawl.db.quarantine import (
    LOOK_BACK,
    SCREENED_STATES,
    check_review,
    held_event,
    review_event,
    review_outcome,
)
from pawl.domain.errors import SampleNotFound
from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review
from pawl.domain.samples import Origin, Sample, SampleState

if TYPE_CHECKING:
    from pawl.db.memory import MemoryDatabase


class MemoryQuarantine:
    """The part of `SampleStore` that keeps the quarantine."""

    _database: MemoryDatabase
    _clock: Clock

    async def hold(self, holds: Mapping[str, Hold], doubts: Mapping[str, Doubt]) -> int:
        """See `QuarantineStore.hold`."""
        samples, now = self._database.samples, self._clock.now()
        queued = [id for id in sorted(holds) if id in samples and samples[id].state is SampleState.QUEUED]
        held = {id: holds[id] for id in queued}
        for id, one in held.items():
            self._database.move(id, SampleState.QUARANTINED, one.reason, now)
            samples[id] = replace(samples[id], quarantined_by=one.kind, doubt=doubts.get(id, samples[id].doubt))
        if held:
            self._database.add_event(*held_event(held), now)
        return len(held)

    async def quarantined(self, where: QuarantineFilter, before: int | None, limit: int) -> list[Sample]:
        """See `QuarantineStore.quarantined`."""

        def fits(one: Sample) -> bool:
            pairs = (
                (where.task, one.task),
                (where.source, one.source),
                (where.label, one.label),
                (where.kind, one.quarantined_by),
            )
            return (
                one.state is SampleState.QUARANTINED
                and all(wanted is None or wanted == found for wanted, found in pairs)
                and (before is None or one.seq < before)
            )

        return [one for one in reversed(self._database.samples.values()) if fits(one)][:limit]

    async def quarantine_counts(self) -> dict[QuarantineKind, int]:
        """See `QuarantineStore.quarantine_counts`."""
        kept = [one for one in self._database.samples.values() if one.state is SampleState.QUARANTINED]
        return dict(Counter(one.quarantined_by for one in kept if one.quarantined_by is not None))

    async def review(self, sample_id: str, review: Review) -> Sample:
        """See `QuarantineStore.review`."""
        if sample_id not in self._database.samples:
            raise SampleNotFound(sample_id=sample_id)
        sample, now = self._database.samples[sample_id], self._clock.now()
        if check_review(sample, review):
            self._database.move(sample_id, *review_outcome(review), now)
            self._database.samples[sample_id] = replace(self._database.samples[sample_id], reviewed_at=now)
            self._database.add_event(*review_event(sample, review), now)
        return self._database.samples[sample_id]

    async def screened(self, task: str, limit: int) -> list[Sample]:
        """See `QuarantineStore.screened`."""
        oldest = len(self._database.samples) - LOOK_BACK * limit
        found = [
            one
            for one in self._database.samples.values()
            if one.task == task and one.state in SCREENED_STATES and one.origin is Origin.FEEDBACK and one.seq > oldest
        ]
        return found[-limit:]

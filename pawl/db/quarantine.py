"""Quarantine in SQL: held by the learner's screen, paged and decided about by reviewers."""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import chunked, reading, writing
from pawl.db.events import add_events
from pawl.db.sample_rows import keep_doubts, lock_samples, move_samples, select_newest, select_samples
from pawl.db.tables import QUARANTINED
from pawl.db.tables import samples as table
from pawl.domain.errors import SampleNotFound
from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review
from pawl.domain.review import held_event, outcome, review_changes, review_event
from pawl.domain.samples import Move, Origin, Sample, SampleState

SCREENED_STATES = (SampleState.LEARNED, SampleState.QUARANTINED, SampleState.REJECTED)
LOOK_BACK = 20
"""How many times its limit `screened` looks back: an import of millions must not be read through for 2000 labels."""


class QuarantineTable:
    """The part of `SampleStore` that keeps the quarantine."""

    _engine: AsyncEngine
    _clock: Clock

    async def hold(self, holds: Mapping[str, Hold], doubts: Mapping[str, Doubt]) -> int:
        """See `QuarantineStore.hold`."""
        held: dict[str, Hold] = {}
        async with writing(self._engine) as connection:
            for ids in chunked(sorted(holds)):
                locked = await lock_samples(connection, ids)
                # Only what is queued still: a correction or a retraction may have come while the screen computed.
                held |= {id: holds[id] for id, sample in locked.items() if sample.state is SampleState.QUEUED}
            moves = {id: Move(SampleState.QUARANTINED, hold.reason, hold.kind) for id, hold in held.items()}
            await move_samples(connection, moves, self._clock.now())
            await keep_doubts(connection, {id: doubts[id] for id in held if id in doubts})
            if held:
                await add_events(connection, self._clock, [held_event(held)])
        return len(held)

    async def quarantined(self, where: QuarantineFilter, before: int | None, limit: int) -> list[Sample]:
        """See `QuarantineStore.quarantined`."""
        wanted = {"task": where.task, "source": where.source, "label": where.label, "quarantined_by": where.kind}
        async with reading(self._engine) as connection:
            return await select_newest(connection, QUARANTINED, wanted, before, limit)

    async def quarantine_counts(self) -> dict[QuarantineKind, int]:
        """See `QuarantineStore.quarantine_counts`."""
        query = select(table.c.quarantined_by, func.count()).where(QUARANTINED).group_by(table.c.quarantined_by)
        async with reading(self._engine) as connection:
            rows = await connection.execute(query)
            return {QuarantineKind(kind): count for kind, count in rows if kind is not None}

    async def review(self, sample_id: str, review: Review) -> Sample:
        """See `QuarantineStore.review`."""
        async with writing(self._engine) as connection:
            # Locked first: a retraction or another reviewer between a look and an update could be overwritten.
            if not await lock_samples(connection, [sample_id]):
                raise SampleNotFound(sample_id=sample_id)
            [sample] = await select_samples(connection, table.c.id == sample_id)
            if review_changes(sample, review):
                now, move = self._clock.now(), outcome(review)
                await move_samples(connection, {sample_id: move}, now)
                decided = update(table).where(table.c.id == sample_id)
                await connection.execute(decided.values(decision=review.action.value, reviewed_at=now))
                await add_events(connection, self._clock, [review_event(sample, review)])
            return (await select_samples(connection, table.c.id == sample_id))[0]

    async def screened(self, task: str, limit: int) -> list[Sample]:
        """See `QuarantineStore.screened`."""
        samples: list[Sample] = []
        async with reading(self._engine) as connection:
            newest = await connection.scalar(select(func.max(table.c.seq)))
            # A query for each state, which ix_samples_task_state_seq answers from its newest end.
            for state in SCREENED_STATES:
                samples += await select_samples(
                    connection,
                    table.c.task == task,
                    table.c.state == state.value,
                    table.c.origin == Origin.FEEDBACK.value,
                    table.c.seq > (newest or 0) - LOOK_BACK * limit,
                    limit=limit,
                    order=table.c.seq.desc(),
                )
        return sorted(samples, key=lambda sample: sample.seq)[-limit:]

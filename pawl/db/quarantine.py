"""Quarantine in SQL: held by the learner's screen, paged and decided about by reviewers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import chunked, reading, writing
from pawl.db.events import add_events
from pawl.db.sample_rows import keep_doubts, lock_samples, move_samples, select_samples
from pawl.db.tables import QUARANTINED
from pawl.db.tables import samples as table
from pawl.domain.errors import NotQuarantined, SampleNotFound
from pawl.domain.quarantine import Doubt, Hold, QuarantineFilter, QuarantineKind, Review, ReviewAction
from pawl.domain.samples import Move, Origin, Sample, SampleState
from pawl.json_values import Json

HELD = "feedback_quarantined"
REVIEWED = "quarantine_reviewed"
SCREENED_STATES = (SampleState.LEARNED, SampleState.QUARANTINED, SampleState.REJECTED)
LOOK_BACK = 20
"""How many times its limit `screened` looks back: an import of millions must not be read through for 2000 labels."""
REVIEWED_STATES = {
    ReviewAction.RELEASE: (SampleState.QUEUED, SampleState.LEARNED),
    ReviewAction.DISCARD: (SampleState.REJECTED,),
}
"""States in which a decision has been carried out already."""
_IDS_IN_EVENT = 100


class QuarantineTable:
    """The part of `SampleStore` that keeps the quarantine."""

    _engine: AsyncEngine
    _clock: Clock

    async def hold(self, holds: Mapping[str, Hold], doubts: Mapping[str, Doubt]) -> int:
        """See `QuarantineStore.hold`."""
        held: dict[str, Hold] = {}
        async with writing(self._engine) as connection:
            for ids in chunked(sorted(holds)):
                rows = await lock_samples(connection, ids)
                held |= {row.id: holds[row.id] for row in rows if row.state == SampleState.QUEUED.value}
            moves = {id: Move(SampleState.QUARANTINED, hold.reason, hold.kind) for id, hold in held.items()}
            await move_samples(connection, moves, self._clock.now())
            await keep_doubts(connection, {id: doubts[id] for id in held if id in doubts})
            if held:
                await add_events(connection, self._clock, [held_event(held)])
        return len(held)

    async def quarantined(self, where: QuarantineFilter, before: int | None, limit: int) -> list[Sample]:
        """See `QuarantineStore.quarantined`."""
        conditions: list[Any] = [QUARANTINED]
        wanted = {"task": where.task, "source": where.source, "label": where.label, "quarantined_by": where.kind}
        conditions += [table.c[name] == value for name, value in wanted.items() if value is not None]
        if before is not None:
            conditions.append(table.c.seq < before)
        async with reading(self._engine) as connection:
            return await select_samples(connection, *conditions, limit=limit, order=table.c.seq.desc())

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
            if check_review(sample, review):
                now = self._clock.now()
                change = update(table).where(table.c.id == sample_id)
                state, reason = review_outcome(review)
                decided = {"decision": review.action.value, "reviewed_at": now, "updated_at": now}
                await connection.execute(change.values(state=state.value, reason=reason, **decided))
                await add_events(connection, self._clock, [review_event(sample, review)])
            return (await select_samples(connection, table.c.id == sample_id))[0]

    async def screened(self, task: str, limit: int) -> list[Sample]:
        """See `QuarantineStore.screened`."""
        found: list[Sample] = []
        async with reading(self._engine) as connection:
            newest = await connection.scalar(select(func.max(table.c.seq)))
            for state in SCREENED_STATES:
                found += await select_samples(
                    connection,
                    table.c.task == task,
                    table.c.state == state.value,
                    table.c.origin == Origin.FEEDBACK.value,
                    table.c.seq > (newest or 0) - LOOK_BACK * limit,
                    limit=limit,
                    order=table.c.seq.desc(),
                )
        return sorted(found, key=lambda sample: sample.seq)[-limit:]


def check_review(sample: Sample, review: Review) -> bool:
    """Whether the decision changes anything; raises `NotQuarantined` where it cannot be made."""
    if sample.state is SampleState.QUARANTINED:
        return True
    if sample.reviewed_at is not None and sample.state in REVIEWED_STATES[review.action]:
        return False
    raise NotQuarantined(sample_id=sample.id, state=sample.state.value)


def review_outcome(review: Review) -> tuple[SampleState, str]:
    """The state and the reason that a decision gives."""
    if review.action is ReviewAction.RELEASE:
        return SampleState.QUEUED, f"released by {review.by}: {review.reason}"
    return SampleState.REJECTED, f"discarded by {review.by}: {review.reason}"


def review_event(sample: Sample, review: Review) -> tuple[str, Json]:
    """Type and payload of the event that a decision writes; `sample` is as it was before."""
    return REVIEWED, {
        "id": sample.id,
        "task": sample.task,
        "label": sample.label,
        "source": sample.source,
        "action": review.action.value,
        "by": review.by,
        "reason": review.reason,
        "quarantined_by": sample.quarantined_by and sample.quarantined_by.value,
        "was": sample.reason,
    }


def held_event(holds: Mapping[str, Hold]) -> tuple[str, Json]:
    """Type and payload of the event that holding samples writes."""
    kinds = sorted({one.kind.value for one in holds.values()})
    counts = {kind: sum(one.kind.value == kind for one in holds.values()) for kind in kinds}
    reasons = list(dict.fromkeys(one.reason for one in holds.values()))
    return HELD, {"count": len(holds), "kinds": counts, "ids": list(holds)[:_IDS_IN_EVENT], "reasons": reasons[:10]}

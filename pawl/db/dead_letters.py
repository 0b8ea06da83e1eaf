"""Dead letters in SQL: samples that could not be learned. An operator queues them again or rejects them."""

from __future__ import annotations

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.acceptance import AcceptingTable
from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.db.events import add_events
from pawl.db.labels import lock_labels
from pawl.db.sample_rows import lock_samples, move_samples, select_newest, select_samples
from pawl.db.tables import ACTIVE_STATES_SQL, DEAD
from pawl.db.tables import samples as table
from pawl.domain.dead_letters import DeadLetterAction, DeadLetterDecision, DeadLetterFilter
from pawl.domain.errors import SampleNotFound
from pawl.domain.review import as_new, check_not_sent_again, decision_changes, decision_event, outcome
from pawl.domain.samples import Sample


class DeadLetterTable(AcceptingTable):
    """The part of `SampleStore` that holds dead letters."""

    async def dead_letters(self, where: DeadLetterFilter, before: int | None, limit: int) -> list[Sample]:
        """See `DeadLetterStore.dead_letters`."""
        wanted = {"task": where.task, "source": where.source, "label": where.label}
        async with reading(self._engine) as connection:
            return await select_newest(connection, DEAD, wanted, before, limit)

    async def dead_count(self) -> int:
        """See `DeadLetterStore.dead_count`."""
        async with reading(self._engine) as connection:
            return int(await connection.scalar(select(func.count()).select_from(table).where(DEAD)) or 0)

    async def decide_dead(self, sample_id: str, decision: DeadLetterDecision) -> Sample:
        """See `DeadLetterStore.decide_dead`."""
        # Read without locks, only to learn which to take: task and text of a sample never change, all else is read
        # again.
        known = await self._one(sample_id)
        async with writing(self._engine) as connection:
            # The locks of an acceptance, in its order: nobody renames the label or sends the text meanwhile.
            await lock_labels(connection, [known.task], shared=True)
            await serialise(connection, LockSpace.TEXT, [f"{known.task} {known.text_digest}"])
            await lock_samples(connection, [sample_id])
            [sample] = await select_samples(connection, table.c.id == sample_id)
            if not decision_changes(sample, decision):
                return sample
            label = sample.label
            if decision.action is DeadLetterAction.REDRIVE:
                label = await self._readmitted(connection, sample)
            await move_samples(connection, {sample_id: outcome(decision)}, self._clock.now())
            decided = update(table).where(table.c.id == sample_id)
            await connection.execute(decided.values(label=label, decision=decision.action.value))
            await add_events(connection, self._clock, [decision_event(sample, decision, label)])
            return (await select_samples(connection, table.c.id == sample_id))[0]

    async def _one(self, sample_id: str) -> Sample:
        async with reading(self._engine) as connection:
            samples = await select_samples(connection, table.c.id == sample_id)
        if not samples:
            raise SampleNotFound(sample_id=sample_id)
        return samples[0]

    async def _readmitted(self, connection: AsyncConnection, sample: Sample) -> str:
        """Returns the present name of the label. Raises `ItemsRefused` and `SentAgain`, as an acceptance would."""
        admission = await self._admitted(connection, [as_new(sample)], [])
        admission.check()
        label = admission.items[0].label
        same_text = (table.c.task == sample.task, table.c.text_digest == sample.text_digest)
        active = (table.c.state.in_(ACTIVE_STATES_SQL), table.c.superseded.is_(False))
        check_not_sent_again(sample, label, await select_samples(connection, *same_text, *active))
        return label

"""Dead letters in SQL: what could not be learned, queued again or rejected by whoever decides about it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.accepting import AcceptingTable
from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.db.events import add_events
from pawl.db.labels import lock_labels
from pawl.db.sample_rows import lock_samples, select_samples
from pawl.db.tables import DEAD
from pawl.db.tables import samples as table
from pawl.domain.dead_letters import DeadLetterAction, DeadLetterDecision, DeadLetterFilter
from pawl.domain.errors import NotDead, SampleNotFound, SentAgain
from pawl.domain.samples import ACTIVE_STATES, NewSample, Sample, SampleState
from pawl.json_values import Json

DECIDED = "dead_letter_decided"
_OUTCOMES = {DeadLetterAction.REDRIVE: SampleState.QUEUED, DeadLetterAction.DISCARD: SampleState.REJECTED}
_WORDS = {DeadLetterAction.REDRIVE: "redriven by ", DeadLetterAction.DISCARD: "discarded by "}


class DeadLetterTable(AcceptingTable):
    """The part of `SampleStore` that holds dead letters."""

    async def dead_letters(self, where: DeadLetterFilter, before: int | None, limit: int) -> list[Sample]:
        """See `DeadLetterStore.dead_letters`."""
        conditions: list[Any] = [DEAD]
        wanted = {"task": where.task, "source": where.source, "label": where.label}
        conditions += [table.c[name] == value for name, value in wanted.items() if value is not None]
        if before is not None:
            conditions.append(table.c.seq < before)
        async with reading(self._engine) as connection:
            return await select_samples(connection, *conditions, limit=limit, order=table.c.seq.desc())

    async def dead_count(self) -> int:
        """See `DeadLetterStore.dead_count`."""
        async with reading(self._engine) as connection:
            return int(await connection.scalar(select(func.count()).select_from(table).where(DEAD)) or 0)

    async def decide_dead(self, sample_id: str, decision: DeadLetterDecision) -> Sample:
        """See `DeadLetterStore.decide_dead`."""
        known = await self._one(sample_id)
        async with writing(self._engine) as connection:
            # The locks of an acceptance, in its order: nobody renames the label or sends the text meanwhile.
            await lock_labels(connection, [known.task], shared=True)
            await serialise(connection, LockSpace.TEXT, [f"{known.task} {known.text_digest}"])
            await lock_samples(connection, [sample_id])
            [sample] = await select_samples(connection, table.c.id == sample_id)
            if not changes_dead(sample, decision):
                return sample
            label = sample.label
            if decision.action is DeadLetterAction.REDRIVE:
                label = await self._readmitted(connection, sample)
            state, reason = outcome(decision)
            now = self._clock.now()
            change = update(table).where(table.c.id == sample_id)
            decided = {"decision": decision.action.value, "updated_at": now}
            await connection.execute(change.values(state=state.value, reason=reason, label=label, **decided))
            await add_events(connection, self._clock, [decision_event(sample, decision, label)])
            return (await select_samples(connection, table.c.id == sample_id))[0]

    async def _one(self, sample_id: str) -> Sample:
        async with reading(self._engine) as connection:
            found = await select_samples(connection, table.c.id == sample_id)
        if not found:
            raise SampleNotFound(sample_id=sample_id)
        return found[0]

    async def _readmitted(self, connection: AsyncConnection, sample: Sample) -> str:
        """The name its label has now, if it may be queued: the rules are those of samples that arrive."""
        admission = await self._admitted(connection, [as_new(sample)], [])
        admission.check()
        label = admission.items[0].label
        own = (table.c.task == sample.task, table.c.text_digest == sample.text_digest)
        active = (table.c.state.in_([state.value for state in ACTIVE_STATES]), table.c.superseded.is_(False))
        check_not_sent_again(sample, label, await select_samples(connection, *own, *active))
        return label


def as_new(sample: Sample) -> NewSample:
    """The sample as it would arrive today."""
    return NewSample(sample.text, sample.label, sample.task, weight=sample.weight, create_task=True)


def changes_dead(sample: Sample, decision: DeadLetterDecision) -> bool:
    """Whether the decision changes anything; raises `NotDead` where it cannot be made."""
    if sample.state is SampleState.DEAD:
        return True
    if sample.state is _OUTCOMES[decision.action] and sample.decision == decision.action.value:
        return False
    raise NotDead(sample_id=sample.id, state=sample.state.value)


def check_not_sent_again(sample: Sample, label: str, active: Sequence[Sample]) -> None:
    """Raises `SentAgain` where an active sample of the text stands in its place: one of its label, or a golden one."""
    for one in active:
        if one.label == label or one.state is SampleState.GOLDEN:
            raise SentAgain(sample_id=sample.id, other=one.id, state=one.state.value)


def outcome(decision: DeadLetterDecision) -> tuple[SampleState, str]:
    """The state and the reason that a decision gives."""
    return _OUTCOMES[decision.action], f"{_WORDS[decision.action]}{decision.by}: {decision.reason}"


def decision_event(sample: Sample, decision: DeadLetterDecision, label: str) -> tuple[str, Json]:
    """Type and payload of the event that a decision writes; `sample` is as it was before."""
    return DECIDED, {
        "id": sample.id,
        "task": sample.task,
        "label": label,
        "source": sample.source,
        "action": decision.action.value,
        "by": decision.by,
        "reason": decision.reason,
        "was": sample.reason,
    }

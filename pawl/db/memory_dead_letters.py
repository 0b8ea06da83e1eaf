"""The in-memory twin of the dead letters in SQL."""

from __future__ import annotations

from dataclasses import replace

from pawl.db.dead_letters import as_new, changes_dead, check_not_sent_again, decision_event, outcome
from pawl.db.memory_accepting import MemoryAccepting
from pawl.domain.dead_letters import DeadLetterAction, DeadLetterDecision, DeadLetterFilter
from pawl.domain.errors import SampleNotFound
from pawl.domain.samples import ACTIVE_STATES, Sample, SampleState


class MemoryDeadLetters(MemoryAccepting):
    """The part of `SampleStore` that holds dead letters."""

    async def dead_letters(self, where: DeadLetterFilter, before: int | None, limit: int) -> list[Sample]:
        """See `DeadLetterStore.dead_letters`."""

        def fits(one: Sample) -> bool:
            pairs = ((where.task, one.task), (where.source, one.source), (where.label, one.label))
            return (
                one.state is SampleState.DEAD
                and all(wanted is None or wanted == found for wanted, found in pairs)
                and (before is None or one.seq < before)
            )

        return [one for one in reversed(self._database.samples.values()) if fits(one)][:limit]

    async def dead_count(self) -> int:
        """See `DeadLetterStore.dead_count`."""
        return sum(one.state is SampleState.DEAD for one in self._database.samples.values())

    async def decide_dead(self, sample_id: str, decision: DeadLetterDecision) -> Sample:
        """See `DeadLetterStore.decide_dead`."""
        samples, now = self._database.samples, self._clock.now()
        if sample_id not in samples:
            raise SampleNotFound(sample_id=sample_id)
        sample = samples[sample_id]
        if not changes_dead(sample, decision):
            return sample
        label = sample.label
        if decision.action is DeadLetterAction.REDRIVE:
            admission = self._admitted([as_new(sample)])
            admission.check()
            label = admission.items[0].label
            texts = (
                one for one in samples.values() if (one.task, one.text_digest) == (sample.task, sample.text_digest)
            )
            active = [one for one in texts if one.state in ACTIVE_STATES and one.id not in self._database.superseded]
            check_not_sent_again(sample, label, active)
        self._database.move(sample_id, *outcome(decision), now)
        samples[sample_id] = replace(samples[sample_id], label=label)
        self._database.add_event(*decision_event(sample, decision, label), now)
        return samples[sample_id]

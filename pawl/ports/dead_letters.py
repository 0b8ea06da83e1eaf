"""The part of the sample store that holds what could not be learned (SQL)."""

from __future__ import annotations

from typing import Protocol

from pawl.domain.dead_letters import DeadLetterDecision, DeadLetterFilter
from pawl.domain.samples import Sample


class DeadLetterStore(Protocol):
    """Dead samples: put there by the learner, taken out by whoever decides about them."""

    async def dead_letters(self, where: DeadLetterFilter, before: int | None, limit: int) -> list[Sample]:
        """A page of dead samples, newest first, with `seq` below `before`."""

    async def dead_count(self) -> int:
        """How many there are."""

    async def decide_dead(self, sample_id: str, decision: DeadLetterDecision) -> Sample:
        """Queues a dead sample again or rejects it; the event is in the transaction.

        It is queued under the name that its label has now. The same decision again changes nothing. Raises
        `SampleNotFound`, `NotDead` for any other state, and `SentAgain` where it was sent again meanwhile.
        """

"""Learning a batch of samples so that one that cannot be learned costs the others nothing.

Only a fault of the sample itself may end it: it recurs with the sample alone, `max_attempts` times, and does not occur
without it. A fault of the environment (a full disk, no memory, a lost server) raises or is reported, and the sample is
tried again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Awaitable, Callable, Sequence

import structlog

from pawl.backoff import Backoff
from pawl.domain.errors import ParentNotLive, StoreUnavailable
from pawl.domain.samples import SampleState
from worker.health.environment import TUNING, Environment
from worker.health.faults import is_device_lost
from worker.state.learner_ports import LearnerPorts
from worker.updates.head_update import HeadUpdate
from worker.updates.retuning import Retuning

log = structlog.get_logger(__name__)


class Retries:
    """Learns batches; a sample that fails alone, again and again, becomes a dead letter.

    `pause` waits, but not beyond the end of the learner.
    """

    def __init__(
        self,
        head_update: HeadUpdate,
        retuning: Retuning,
        ports: LearnerPorts,
        environment: Environment,
        limit: int,
        pause: Callable[[float], Awaitable[None]],
    ) -> None:
        self._head_update = head_update
        self._retuning = retuning
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._environment = environment
        self._limit = limit
        self._pause = pause
        self._failed: defaultdict[str, Backoff] = defaultdict(lambda: Backoff(first=0.2, longest=5.0))

    async def learn(self, ids: Sequence[str], *, alone: bool = False) -> bool:
        """Learns a batch, and what was imported with it unless it is tried `alone`; false where not all are settled.

        Raises `PlaceUnwell` where the environment is at fault, and what the stores raise.
        """
        try:
            await self._head_update.learn(ids, alone=alone)
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - one bad sample must not stop the others
            return await self._isolate(ids, error)
        for sample_id in ids:
            self._failed.pop(sample_id, None)
        await self._retune()
        return True

    async def _isolate(self, ids: Sequence[str], error: Exception) -> bool:
        log.error("learning_failed", samples=len(ids), error=repr(error), exc_info=error)
        # Asked before the batch is halved: where the environment is at fault this raises, and no half is tried in vain.
        is_input = await self._environment.is_fault_of_input(error)
        if len(ids) > 1:
            middle = len(ids) // 2
            # `alone`: else each half of an import would be completed to the whole again, and no half would ever be
            # smaller.
            first = await self.learn(ids[:middle], alone=True)
            return await self.learn(ids[middle:], alone=True) and first
        if not is_input:
            await self._environment.report(error)
            return False
        [sample_id] = ids
        backoff = self._failed[sample_id]
        pause = backoff.next_pause()
        if backoff.failures < self._limit:
            await self._pause(pause)
            return False
        del self._failed[sample_id]
        if await self._samples.settle(SampleState.DEAD, {sample_id: f"could not be learned: {error!r}"[:500]}):
            await self._ledger.append_event("feedback_dead", {"id": sample_id, "error": repr(error)[:500]})
        return True

    async def _retune(self) -> None:
        """Chooses lambda again where that is overdue. The samples are settled: a failure here is not theirs."""
        if not self._retuning.is_overdue():
            return
        try:
            await self._retuning.maintain(lambda: False)
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as error:
            if is_device_lost(error):
                raise
            await self._environment.report(error, TUNING)
        else:
            await self._environment.recover(TUNING)

"""The learner's loop: read -> learn -> gate -> publish -> ack; sweep, reclaim, back off, dead-letter, heartbeat.

Redis wakes it, SQL feeds it. A sample is acknowledged on the stream only after it is in a final state in SQL; one the
stream lost is found by the sweep; one delivered twice is passed over because of its state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

import structlog

from app.core.domain.errors import ParentNotLive, StoreUnavailable
from app.core.domain.samples import Sample, SampleState
from app.core.domain.versions import Json
from app.core.ports import Clock, FeedbackStream, SampleStore, StreamEntry, VersionLedger
from app.core.settings import Settings
from worker.consolidator import Consolidator
from worker.housekeeping import Housekeeping
from worker.labelling import Labelling
from worker.learning import Learning
from worker.state import LearnerState
from worker.tuning import Tuning

_BOOTSTRAP_LIMIT = 20_000
_LABELS_SECONDS = 0.25
"""How often it is asked whether an operator wants a label changed."""
_LONGEST_BACKOFF = 5.0
_LONGEST_BOOTSTRAP_PAUSE = 30.0
log = structlog.get_logger(__name__)


class Consumer:
    """Drives learning until it is stopped. One at a time works; others stand by for its lease."""

    def __init__(
        self,
        samples: SampleStore,
        ledger: VersionLedger,
        stream: FeedbackStream,
        learning: Learning,
        tuning: Tuning,
        labelling: Labelling,
        consolidator: Consolidator,
        housekeeping: Housekeeping,
        first_state: Callable[[], LearnerState],
        clock: Clock,
        settings: Settings,
    ) -> None:
        self._samples = samples
        self._ledger = ledger
        self._stream = stream
        self._learning = learning
        self._tuning = tuning
        self._labelling = labelling
        self._consolidator = consolidator
        self._housekeeping = housekeeping
        self._first_state = first_state
        self._clock = clock
        self._settings = settings
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._stopping = asyncio.Event()
        self._attempts: Counter[str] = Counter()
        self._failed_bootstraps = 0
        self._activity = "starting"
        self._leading = False
        self._redis = True

    def stop(self) -> None:
        """Asks the loop to end after the step in hand."""
        self._stopping.set()
        self._housekeeping.interrupt()

    async def run(self) -> None:
        """Works until `stop`. Outages of SQL and Redis are waited out with growing pauses."""
        heartbeat = asyncio.create_task(self._beat())
        backoff = 0.1
        try:
            while not self._stopping.is_set():
                try:
                    await self._turn()
                    backoff = 0.1
                except ParentNotLive as error:
                    log.info("another_learner_was_faster", problem=str(error))
                except (StoreUnavailable, ConnectionError) as error:
                    log.warning("waiting_for_a_server", problem=str(error), seconds=backoff)
                    await self._pause(backoff)
                    backoff = min(2 * backoff, _LONGEST_BACKOFF)
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat
            await self._consolidator.stop()
            await self._housekeeping.finish(self._learning.state)
            await self._leave()

    async def drain(self, progress: Callable[[int], Awaitable[None]]) -> None:
        """Learns everything that is queued in SQL, without Redis, then returns. `progress` gets what is left."""
        heartbeat = asyncio.create_task(self._beat())
        try:
            while not self._leading:
                await self._pause(0.05)
            while (left := (await self._samples.backlog()).length) and not self._stopping.is_set():
                await progress(left)
                await self._learning.catch_up()
                await self._labelling.carry_out()
                if not await self._learn([sample.id for sample in await self._queued(timedelta(0))]):
                    break  # what is left cannot be learned yet: too little for a first version
            await progress((await self._samples.backlog()).length)
            await self._housekeeping.finish(self._learning.state)
        finally:
            heartbeat.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await heartbeat
            await self._leave()

    async def _turn(self) -> None:
        if not self._leading:
            await self._pause(0.05)
            return
        entries, redis = await self._receive()
        state = self._learning.state
        if state is not None and await self._consolidator.wanted(state):
            await self._consolidator.start(state, self._stream)
        # Without Redis the sweep is the only way in, so it takes even the youngest.
        age = timedelta(seconds=self._settings.sweep_seconds if redis else 0.0)
        swept: list[Sample] = []
        if self._housekeeping.due("sweep", self._settings.sweep_seconds if redis else 0.1):
            swept = await self._queued(age)
        relabel = self._housekeeping.due("labels", _LABELS_SECONDS) and await self._labelling.is_asked()
        if entries or swept or relabel or self._consolidator.finished:
            await self._housekeeping.pause()
        if self._housekeeping.busy:
            return  # a chore may be promoting: until it is done the ledger and the state may differ
        await self._learning.catch_up()
        if relabel:
            self._activity = "relabelling"
            await self._labelling.carry_out()
        await self._consume(entries)
        if self._consolidator.finished:
            self._activity = "consolidating"
            await self._consolidator.conclude(self._learning)
        if swept:
            await self._learn([sample.id for sample in swept])
        self._activity = "idle"
        if not entries:
            self._housekeeping.resume(self._learning.state)

    async def _receive(self) -> tuple[list[StreamEntry], bool]:
        """What the stream has, waiting a moment for it; and whether Redis is there and could be reached."""
        settings = self._settings
        try:
            entries = await self._stream.read(self.name, settings.learn_batch, block_ms=200)
            if self._housekeeping.due("reclaim", settings.reclaim_seconds):
                entries += await self._stream.reclaim(self.name, int(settings.reclaim_seconds * 1e3), 100)
        except ConnectionError as error:
            if self._redis:  # said once an outage, not ten times a second
                log.warning("redis_unreachable", problem=str(error))
            self._redis = False
            await self._pause(0.1)
            return [], False
        if not self._redis:
            log.info("redis_reachable_again")
        self._redis = True
        return entries, self._stream.carries

    async def _queued(self, age: timedelta) -> list[Sample]:
        return await self._samples.queued(self._settings.bulk_batch, older_than=self._clock.now() - age)

    async def _consume(self, entries: Sequence[StreamEntry]) -> None:
        if not entries:
            return
        ids = list(dict.fromkeys(sample_id for entry in entries for sample_id in entry.sample_ids))
        settled = True
        for start in range(0, len(ids), self._settings.bulk_batch):
            settled = await self._learn(ids[start : start + self._settings.bulk_batch]) and settled
        if settled:
            await self._stream.ack([entry.entry_id for entry in entries])
        # else they stay pending: SQL holds the samples as queued and the sweep tries again

    async def _learn(self, ids: Sequence[str]) -> bool:
        """Learns a batch; isolates and finally buries a sample that cannot be learned. False: not all are settled."""
        self._activity = "learning"
        if self._learning.state is None:
            return await self._bootstrap()
        try:
            await self._learning.learn(ids)
            if self._tuning.is_overdue():
                await self._tuning.maintain(lambda: False)
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as error:  # noqa: BLE001 - one bad sample must not stop the others
            return await self._isolate(ids, error)
        for sample_id in ids:
            self._attempts.pop(sample_id, None)
        return True

    async def _isolate(self, ids: Sequence[str], error: Exception) -> bool:
        log.error("learning_failed", samples=len(ids), error=repr(error), exc_info=error)
        if len(ids) > 1:
            middle = len(ids) // 2
            first = await self._learn(ids[:middle])
            return await self._learn(ids[middle:]) and first
        sample_id = ids[0]
        self._attempts[sample_id] += 1
        if self._attempts[sample_id] < self._settings.max_attempts:
            await self._pause(min(0.1 * 2 ** self._attempts[sample_id], _LONGEST_BACKOFF))
            return False
        del self._attempts[sample_id]
        await self._samples.settle(SampleState.DEAD, {sample_id: f"could not be learned: {error!r}"[:500]})
        await self._ledger.append_event("feedback_dead", {"id": sample_id, "error": repr(error)[:500]})
        return True

    async def _bootstrap(self) -> bool:
        """The first version, once there is enough; what it does not learn is learned by the next ones."""
        if not await self._samples.makes_first_version(self._settings.bootstrap_samples):
            return False
        found = await self._samples.first_samples(_BOOTSTRAP_LIMIT)
        self._activity = "bootstrapping"
        await self._ledger.append_event("bootstrap_started", {"samples": len(found)})
        started = time.perf_counter()
        try:
            state = await asyncio.to_thread(self._first_state)
            version = await self._tuning.bootstrap(state, [sample.id for sample in found])
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except Exception as error:
            # An encoder that cannot be loaded, a full disk: no sample's fault, so none is given up for it.
            log.exception("bootstrap_failed", samples=len(found))
            await self._ledger.append_event("bootstrap_failed", {"problem": str(error)[:500]})
            self._failed_bootstraps += 1
            await self._pause(min(0.5 * 2**self._failed_bootstraps, _LONGEST_BOOTSTRAP_PAUSE))
            return False
        log.info("bootstrapped", version=version.number, samples=len(found), seconds=time.perf_counter() - started)
        return True

    async def _beat(self) -> None:
        """Renews the lease; a learner that cannot reach SQL loses it, and a promotion is refused anyway then."""
        was_leading = False
        while True:
            state = self._learning.state
            details: Json = {}
            if state is not None:
                panel = max((len(learner.panel) for learner in state.tasks.values()), default=0)
                details = {"version": state.version, "samples": state.samples}
                details |= {"panel": panel, "panel_limit": self._settings.gate_items}
            details |= self._consolidator.progress
            try:
                self._leading = await self._ledger.acquire_lease(
                    self.name, self._settings.lease_seconds, self._activity, details
                )
            except StoreUnavailable:
                self._leading = False
            if self._leading != was_leading:
                log.info("leading" if self._leading else "standing_by", name=self.name)
                was_leading = self._leading
            await asyncio.sleep(self._settings.lease_seconds / 4)

    async def _leave(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self._ledger.release_lease(self.name)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)

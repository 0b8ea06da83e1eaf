"""The learner's loop: read -> learn -> gate -> publish -> ack; sweep, reclaim, back off, dead-letter, heartbeat.

Redis wakes it, SQL feeds it. A sample is acknowledged on the stream only after it is in a final state in SQL; one the
stream lost is found by the sweep; one delivered twice is passed over because of its state.
"""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from pawl.backoff import Backoff, pause_unless
from pawl.domain.errors import EncoderRejected, ParentNotLive, StoreUnavailable
from pawl.domain.samples import Sample
from pawl.domain.versions import EncoderState
from pawl.json_values import Json
from pawl.ports import StreamEntry, StreamUnavailable
from pawl.settings import Settings
from worker.consolidator import Consolidator
from worker.health.encoder_check import Suitability
from worker.health.faults import is_damage, is_device_lost, is_of_the_place, told
from worker.health.heartbeat import Heartbeat
from worker.health.retries import Attempts
from worker.health.trouble import DeviceLost, Place
from worker.maintenance import Housekeeping
from worker.release.publisher import Publisher
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.state.snapshots import Snapshots
from worker.updates.head_update import Learning
from worker.updates.label_change import Labelling
from worker.updates.rebuild import Remaking
from worker.updates.retuning import Tuning

_BOOTSTRAP_LIMIT = 20_000
_LABELS_SECONDS = 0.25
"""How often it is asked whether an operator wants a label changed."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LearnerParts:
    """What a learner is made of; `worker/assembly.py` puts it together. `check_schema` raises `SchemaMismatch`."""

    settings: Settings
    ports: LearnerPorts
    snapshots: Snapshots
    publisher: Publisher
    recovery: Recovery
    empty_state: Callable[[], LearnerState]
    learning: Learning
    tuning: Tuning
    labelling: Labelling
    consolidator: Consolidator
    housekeeping: Housekeeping
    suitability: Suitability
    place: Place
    remaking: Remaking
    check_schema: Callable[[], Awaitable[None]]


class LearnerLoop:
    """Drives learning until it is stopped. One at a time works; others stand by for its lease."""

    def __init__(self, parts: LearnerParts) -> None:
        self.parts = parts
        self._samples = parts.ports.samples
        self._ledger = parts.ports.ledger
        self._stream = parts.ports.stream
        self._clock = parts.ports.clock
        self._learning = parts.learning
        self._tuning = parts.tuning
        self._labelling = parts.labelling
        self._consolidator = parts.consolidator
        self._housekeeping = parts.housekeeping
        self._first_state = parts.empty_state
        self._suitability = parts.suitability
        self._place = parts.place
        self._remaking = parts.remaking
        self._check_schema = parts.check_schema
        self._settings = settings = parts.settings
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        self._heartbeat = Heartbeat(self._ledger, self.name, settings.lease_seconds, parts.check_schema, self._details)
        self._stopping = asyncio.Event()
        self._attempts = Attempts(
            parts.learning, parts.tuning, parts.ports, parts.place, settings.max_attempts, self._pause
        )
        self._bootstraps = Backoff(first=1.0)
        self._redis_problem: str | None = None

    def stop(self) -> None:
        """Asks the loop to end after the step in hand."""
        self._stopping.set()
        self._housekeeping.interrupt()

    async def run(self) -> None:
        """Works until `stop`. What is wrong with the place is waited out with growing pauses, and learned after it.

        Raises `DeviceLost` where only a new process can go on, and `EncoderRejected` where no version can be made with
        the encoder that was chosen.
        """
        backoff = Backoff(longest=5.0)
        async with self._heartbeat.beating():
            try:
                await self._suitability.settle(self._pause, self._heartbeat.tell, self._stopping.is_set)
                while not self._stopping.is_set():
                    if await self._survived_turn():
                        backoff.reset()
                    else:
                        await self._pause(backoff.next_pause())
            finally:
                await self._consolidator.stop()
                await self._housekeeping.finish(self._learning.state)

    async def _survived_turn(self) -> bool:
        """One turn; false, after it was reported, where it could not be made."""
        reports = self._place.reports
        try:
            if not self._place.is_well and self._heartbeat.leading:
                self._heartbeat.activity = "troubled"
                await self._housekeeping.pause()
                await self._place.prove()
            await self._turn()
        except ParentNotLive as error:
            log.info("another_learner_was_faster", problem=str(error))
        except (StoreUnavailable, ConnectionError) as error:
            log.warning("waiting_for_a_server", problem=str(error))
            return False
        except Exception as error:  # noqa: BLE001 - nothing that waits may be lost, so whatever it is is waited out
            await self._face(error)
            return False
        else:
            if self._place.reports > reports:
                return False  # it went on with what could be done
            if self._heartbeat.leading:
                await self._place.recover()
        return True

    async def _face(self, error: Exception) -> None:
        await self._place.report(error)
        if isinstance(error, DeviceLost) or is_device_lost(error):
            raise DeviceLost(told(error)) from error
        if is_damage(error) or not is_of_the_place(error):
            self._learning.state = None  # made anew from SQL, as after a start

    async def drain(self, progress: Callable[[int], Awaitable[None]]) -> None:
        """Learns everything that is queued in SQL, without Redis, then returns. `progress` gets what is left."""
        await self._check_schema()  # whoever waits for the end of this is told at once
        async with self._heartbeat.beating():
            while not self._heartbeat.leading:
                waits = (await self._samples.backlog()).length or await self._consolidator.is_asked()
                if self._stopping.is_set() or not waits:
                    return  # another learner has the lease, and learns
                await self._pause(0.05)
            await self._suitability.settle(self._pause, self._heartbeat.tell, self._stopping.is_set)
            while (left := (await self._samples.backlog()).length) and not self._stopping.is_set():
                await progress(left)
                await self._remaking.catch_up()
                await self._labelling.carry_out()
                if not await self._learn([sample.id for sample in await self._queued(timedelta(0))]):
                    break  # what is left cannot be learned yet: too little for a first version, or nowhere to put it
            self._place.check()
            await progress((await self._samples.backlog()).length)
            await self._consolidator.carry_out(self._learning, self._stream)
            await self._housekeeping.finish(self._learning.state)

    async def _turn(self) -> None:
        if not self._heartbeat.leading:
            await self._pause(0.05)
            return
        entries, redis = await self._receive()
        state = self._learning.state
        if state is not None and (cause := await self._consolidator.take_cause(state)) is not None:
            await self._consolidator.start(state, cause, self._stream)
        swept = await self._sweep(redis)
        relabel = self._housekeeping.due("labels", _LABELS_SECONDS) and await self._labelling.is_asked()
        if entries or swept or relabel or self._consolidator.finished:
            await self._housekeeping.pause()
        if self._housekeeping.busy:
            return  # a chore may be promoting: until it is done the ledger and the state may differ
        await self._remaking.catch_up()
        if relabel:
            self._heartbeat.activity = "relabelling"
            await self._labelling.carry_out()
        await self._consume(entries)
        if self._consolidator.finished:
            self._heartbeat.activity = "consolidating"
            await self._consolidator.conclude(self._learning)
        if swept:
            await self._learn([sample.id for sample in swept])
        self._heartbeat.activity = "idle"
        if not entries:
            self._housekeeping.resume(self._learning.state)

    async def _receive(self) -> tuple[list[StreamEntry], bool]:
        """What the stream has, waiting a moment for it; and whether Redis is there and could be reached."""
        settings = self._settings
        try:
            entries = await self._stream.read(self.name, settings.learn_batch, block_ms=200)
            if self._housekeeping.due("reclaim", settings.reclaim_seconds):
                entries += await self._stream.reclaim(self.name, int(settings.reclaim_seconds * 1e3), 100)
        except StreamUnavailable as error:
            self._note_redis(error)
            await self._pause(0.1)
            return [], False
        self._note_redis(None)
        return entries, self._stream.carries

    async def _sweep(self, redis: bool) -> list[Sample]:
        """What the stream did not bring, every now and then. Without Redis it is the only way in, so it takes even the
        youngest; what could not be learned for a trouble is learned as soon as that may be over.
        """
        if not self._place.is_well:
            return await self._queued(timedelta(0))
        if self._housekeeping.due("sweep", self._settings.sweep_seconds if redis else 0.1):
            return await self._queued(timedelta(seconds=self._settings.sweep_seconds if redis else 0.0))
        return []

    def _note_redis(self, error: StreamUnavailable | None) -> None:
        """Says when Redis stops working, why, and when it works again; not ten times a second."""
        problem = error.problem if error is not None else None
        if problem != self._redis_problem:
            if error is not None:
                log.warning("redis_unavailable", problem=str(error))
            else:
                log.info("redis_works_again")
        self._redis_problem = problem

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
        self._heartbeat.activity = "learning"
        if self._learning.state is None:
            return await self._bootstrap()
        return await self._attempts.learn(ids)

    async def _bootstrap(self) -> bool:
        """The first version, once there is enough; what it does not learn is learned by the next ones."""
        if self._suitability.encoder is EncoderState.REFUSED:
            return False  # until the settings change, for which the process is started again
        if not await self._samples.makes_first_version(self._settings.bootstrap_samples):
            return False
        found = await self._samples.first_samples(_BOOTSTRAP_LIMIT)
        self._heartbeat.activity = "bootstrapping"
        await self._ledger.append_event("bootstrap_started", {"samples": len(found)})
        started = time.perf_counter()
        try:
            state = await asyncio.to_thread(self._first_state)
            version = await self._tuning.bootstrap(state, [sample.id for sample in found])
        except (ParentNotLive, StoreUnavailable, ConnectionError):
            raise
        except EncoderRejected as error:
            await self._suitability.refuse(error)
            return False
        except Exception as error:
            # A full disk: no sample's fault, so none is given up for it.
            if is_device_lost(error):
                raise
            log.exception("bootstrap_failed", samples=len(found))
            await self._place.report(error)
            await self._ledger.append_event("bootstrap_failed", {"problem": told(error)})
            await self._pause(self._bootstraps.next_pause())
            return False
        log.info("bootstrapped", version=version.number, samples=len(found), seconds=time.perf_counter() - started)
        return True

    def _details(self) -> Json:
        """For the heartbeat."""
        details = self._place.details | {"encoder": self._suitability.encoder}
        state = self._learning.state
        if state is not None:
            panel = max((len(learner.evaluation) for learner in state.tasks.values()), default=0)
            details |= {"version": state.version, "samples": state.samples}
            details |= {"panel": panel, "panel_limit": self._settings.gate_items}
        if self._redis_problem is not None:
            details["redis_problem"] = self._redis_problem
        return details | self._consolidator.progress

    async def _pause(self, seconds: float) -> None:
        await pause_unless(self._stopping, seconds)

"""The learner's loop: read, learn, acknowledge; sweep, reclaim, back off.

Redis wakes it, SQL feeds it. A sample is acknowledged on the stream only after it is in a final state in SQL. One that
the stream lost is found by the sweep. One that is delivered twice is passed over because of its state.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from pawl.backoff import Backoff, pause_unless
from pawl.domain.errors import ParentNotLive, StoreUnavailable
from pawl.domain.learner import EncoderState
from pawl.domain.samples import Sample
from pawl.json_values import Json
from pawl.ports import StreamEntry, StreamUnavailable
from pawl.settings import Settings
from worker.consolidator import Consolidator
from worker.health.environment import DeviceLost, Environment
from worker.health.faults import is_damage, is_device_lost, is_of_environment, sentence
from worker.health.heartbeat import Heartbeat
from worker.health.throttle import Throttle
from worker.maintenance import Maintenance
from worker.release.publisher import Publisher
from worker.state.learner_ports import LearnerPorts
from worker.state.recovery import Recovery
from worker.state.snapshots import Snapshots
from worker.updates.bootstrap import Bootstrap
from worker.updates.encoder_check import EncoderCheck
from worker.updates.head_update import HeadUpdate
from worker.updates.label_change import LabelChanger
from worker.updates.rebuild import Rebuild
from worker.updates.retries import Retries
from worker.updates.retuning import Retuning
from worker.updates.step_runner import StepRunner

_LABELS_SECONDS = 0.25
"""How often the loop looks whether an operator wants a label changed."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LearnerParts:
    """What a learner is made of; `worker/assembly.py` puts it together. `check_schema` raises `SchemaMismatch`."""

    settings: Settings
    ports: LearnerPorts
    environment: Environment
    encoder_check: EncoderCheck
    check_schema: Callable[[], Awaitable[None]]
    publisher: Publisher
    snapshots: Snapshots
    recovery: Recovery
    runner: StepRunner
    bootstrap: Bootstrap
    head_update: HeadUpdate
    retuning: Retuning
    label_changer: LabelChanger
    rebuild: Rebuild
    consolidator: Consolidator
    maintenance: Maintenance


class LearnerLoop:
    """Drives learning until it is stopped. One learner at a time works; others stand by for its lease."""

    def __init__(self, parts: LearnerParts) -> None:
        self.parts = parts
        self._settings = settings = parts.settings
        self._samples = parts.ports.samples
        self._stream = parts.ports.stream
        self._environment = parts.environment
        self._runner = parts.runner
        self._consolidator = parts.consolidator
        self._maintenance = parts.maintenance
        self.name = f"{socket.gethostname()}-{os.getpid()}"
        ledger = parts.ports.ledger
        self._heartbeat = Heartbeat(ledger, self.name, settings.lease_seconds, parts.check_schema, self._details)
        self._stopping = asyncio.Event()
        self._retries = Retries(
            parts.head_update, parts.retuning, parts.ports, parts.environment, settings.max_attempts, self._pause
        )
        self._throttle = Throttle()
        self._redis_problem: str | None = None

    def stop(self) -> None:
        """Asks the loop to end after the step in hand."""
        self._stopping.set()
        self._maintenance.interrupt()

    async def run(self) -> None:
        """Works until `stop`. Faults of the environment are waited out, with growing pauses; nothing is lost by them.

        Raises `DeviceLost` where only a new process can go on, and `EncoderRejected` where no version can be made with
        the encoder that was chosen.
        """
        backoff = Backoff(longest=5.0)
        async with self._heartbeat.beating():
            try:
                await self._check_encoder()
                while not self._stopping.is_set():
                    if await self._try_turn():
                        backoff.reset()
                    else:
                        await self._pause(backoff.next_pause())
            finally:
                # Still under the lease: no other learner begins while the child ends and the last snapshot is written.
                await self._consolidator.stop()
                await self._maintenance.finish()

    async def drain(self, progress: Callable[[int], Awaitable[None]]) -> None:
        """Learns everything that is queued in SQL, without Redis, then returns. `progress` gets what is left."""
        await self.parts.check_schema()  # now, and not only in the heartbeat: the caller of a drain is to see the error
        async with self._heartbeat.beating():
            while not self._heartbeat.leading:
                waits = (await self._samples.backlog()).length or await self._consolidator.is_asked()
                if self._stopping.is_set() or not waits:
                    return  # another learner has the lease, and learns
                await self._pause(0.05)
            await self._check_encoder()
            while (left := (await self._samples.backlog()).length) and not self._stopping.is_set():
                await progress(left)
                await self.parts.rebuild.catch_up()
                await self.parts.label_changer.carry_out()
                if not await self._learn([sample.id for sample in await self._queued(timedelta(0))]):
                    break  # what is left cannot be learned yet: too little for a first version, or nowhere to put it
            self._environment.require_well()
            await progress((await self._samples.backlog()).length)
            await self._consolidator.carry_out(self._runner, self._stream)
            await self._maintenance.finish()

    async def _check_encoder(self) -> None:
        await self.parts.encoder_check.settle(self._pause, self._heartbeat.beat, self._stopping.is_set)

    async def _try_turn(self) -> bool:
        """One turn; false, after it was reported, where it could not be made."""
        reports = self._environment.reports
        try:
            # A dry run first: as long as it fails no sample is tried, so no failure can be counted against one.
            if not self._environment.is_well and self._heartbeat.leading:
                self._heartbeat.begin("troubled")
                await self._maintenance.pause()
                await self._environment.verify()
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
            if self._environment.reports > reports:
                return False  # it went on with what could be done
            if self._heartbeat.leading:
                await self._environment.recover()
        return True

    async def _face(self, error: Exception) -> None:
        await self._environment.report(error)
        if isinstance(error, DeviceLost) or is_device_lost(error):
            raise DeviceLost(sentence(error)) from error
        if is_damage(error) or not is_of_environment(error):
            self._runner.forget()

    async def _turn(self) -> None:
        # Nothing is read from the stream either: an entry taken here would wait for `reclaim`.
        if not self._heartbeat.leading:
            await self._pause(0.05)
            return
        entries, has_redis = await self._receive()
        state = self._runner.state
        if state is not None and (cause := await self._consolidator.take_cause(state)) is not None:
            await self._consolidator.start(state, cause, self._stream)
        swept = await self._sweep(has_redis=has_redis)
        is_due = self._throttle.acquire("labels", _LABELS_SECONDS)
        relabels = is_due and await self.parts.label_changer.is_asked()
        if entries or swept or relabels or self._consolidator.finished:
            await self._maintenance.pause()
        if self._maintenance.is_busy:
            return  # a job may be promoting: until it is done the ledger and the state may differ
        # A roll-back by hand or another learner may have promoted since: a step on the older state would be worked out
        # and written, and then lose with `ParentNotLive`.
        await self.parts.rebuild.catch_up()
        if relabels:
            self._heartbeat.begin("relabelling")
            await self.parts.label_changer.carry_out()
        await self._consume(entries)
        if self._consolidator.finished:
            self._heartbeat.begin("consolidating")
            await self._consolidator.conclude(self._runner)
        if swept:
            await self._learn([sample.id for sample in swept])
        self._heartbeat.begin("idle")
        if not entries:
            self._maintenance.resume()

    async def _receive(self) -> tuple[list[StreamEntry], bool]:
        """What the stream has, waiting a moment for it; and whether Redis is there and could be reached."""
        settings = self._settings
        try:
            entries = await self._stream.read(self.name, settings.learn_batch, block_ms=200)
            # What a learner that died had taken: Redis gives it to no other consumer by itself.
            if self._throttle.acquire("reclaim", settings.reclaim_seconds):
                entries += await self._stream.reclaim(self.name, int(settings.reclaim_seconds * 1e3), 100)
        except StreamUnavailable as error:
            self._note_redis(error)
            await self._pause(0.1)
            return [], False
        self._note_redis(None)
        return entries, self._stream.carries

    async def _sweep(self, *, has_redis: bool) -> list[Sample]:
        """Reads what the stream did not bring, at intervals.

        Without Redis the sweep is the only way in, so it takes even the youngest. After a fault of the environment it
        takes all at once: what could not be learned is learned as soon as the fault may be over.
        """
        if not self._environment.is_well:
            return await self._queued(timedelta(0))
        if self._throttle.acquire("sweep", self._settings.sweep_seconds if has_redis else 0.1):
            return await self._queued(timedelta(seconds=self._settings.sweep_seconds if has_redis else 0.0))
        return []

    def _note_redis(self, error: StreamUnavailable | None) -> None:
        """Logs when Redis stops working, why, and when it works again; not ten times a second."""
        problem = error.problem if error is not None else None
        if problem != self._redis_problem:
            if error is not None:
                log.warning("redis_unavailable", problem=str(error))
            else:
                log.info("redis_works_again")
        self._redis_problem = problem

    async def _queued(self, age: timedelta) -> list[Sample]:
        older_than = self.parts.ports.clock.now() - age
        return await self._samples.queued(self._settings.bulk_batch, older_than=older_than)

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
        """Learns a batch, or makes the first version; false where not all samples are in a final state afterwards."""
        self._heartbeat.begin("learning")
        if self._runner.state is not None:
            return await self._retries.learn(ids)
        encoder_check, bootstrap = self.parts.encoder_check, self.parts.bootstrap
        # A refused encoder stays so until the settings change, for which the process is started again.
        if encoder_check.verdict is EncoderState.REFUSED or not await bootstrap.is_possible():
            return False
        self._heartbeat.begin("bootstrapping")
        return await bootstrap.run(self._environment, encoder_check, self._pause)

    def _details(self) -> Json:
        """For the heartbeat."""
        details = self._environment.details | {"encoder": self.parts.encoder_check.verdict}
        state = self._runner.state
        if state is not None:
            panel = max((len(model.evaluation) for model in state.tasks.values()), default=0)
            details |= {"version": state.version, "samples": state.samples}
            details |= {"panel": panel, "panel_limit": self._settings.gate_items}
        if self._redis_problem is not None:
            details["redis_problem"] = self._redis_problem
        return details | self._consolidator.progress

    async def _pause(self, seconds: float) -> None:
        await pause_unless(self._stopping, seconds)

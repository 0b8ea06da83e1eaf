"""The learner's side of a new encoder, trained or chosen: starts the child, relays its progress, and turns its result
into a version.

The child (`python -m worker.consolidation`) has its own memory and its own crash. It writes into a job folder only, so
whatever happens to it, the live version and the store stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import structlog

from pawl.domain.errors import ParentNotLive, PawlError
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.versions import CONSOLIDATION_ASKED, CONSOLIDATION_STARTED, Version
from pawl.json_values import Json
from pawl.ports import Encoder, FeedbackStream
from pawl.processes.children import module_command
from pawl.settings import Settings
from worker.consolidation.job import Job, Result, read_embeddings
from worker.consolidation.progress import ProgressLine
from worker.consolidation.yielding import follow_pressure
from worker.health.faults import is_of_environment
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.updates.encoder_requests import Requests
from worker.updates.encoder_swap import Cause, EncoderSwap
from worker.updates.step_runner import StepRunner

_EVENT_SECONDS = 1.0
_CHECK_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_EVENT_PAGE = 500
_EVENTS_KNOWN = 5_000
"""Events before its start in which a learner looks for a request that nobody has met."""
_STOP_SECONDS = 3.0
_TRIES = 3
log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Child:
    """The child that works on a job, and the tasks beside it. `last` is its newest line of progress."""

    cause: Cause
    folder: Path
    process: asyncio.subprocess.Process
    relay: asyncio.Task[None] = field(init=False)
    pressure: asyncio.Task[None] = field(init=False)
    last: ProgressLine | None = None

    def check(self) -> None:
        """Raises `RuntimeError` for a child that failed."""
        if self.process.returncode != 0:
            problem = (self.last and self.last.problem) or "see the worker's log"
            raise RuntimeError(f"the child ended with {self.process.returncode}: {problem}")


class Consolidator:
    """At most one new encoder at a time: a consolidation, or one that somebody asked for."""

    def __init__(
        self,
        ports: LearnerPorts,
        swap: EncoderSwap,
        open_encoder: Callable[[Path, str], Encoder],
        settings: Settings,
    ) -> None:
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._swap = swap
        self._open_encoder = open_encoder
        self._clock = ports.clock
        self._settings = settings
        self._requests = Requests(ports.ledger)
        self._child: _Child | None = None
        self._conclusions = 0
        self._checked = self._looked = 0.0
        self._seen: int | None = None

    @property
    def finished(self) -> bool:
        """Whether a child has ended and waits to be concluded."""
        return self._child is not None and self._child.relay.done()

    @property
    def progress(self) -> Json:
        """The child's newest line, for the heartbeat."""
        child = self._child
        return {} if child is None or child.last is None else child.last.to_json() | {"work": child.cause.work}

    async def take_cause(self, state: LearnerState) -> Cause | None:
        """What a child is to be started for now, if anything; taken: the next call does not give it again.

        Another encoder that somebody asked for, a consolidation that was asked for by hand, enough new samples, or old
        enough ones. A request made while a child works stays where it is until that one is done.
        """
        if self._child is not None:
            return None
        if (cause := await self._take_request(state)) is not None:
            return cause
        trigger = await self._take_trigger() or await self._due(state)
        return None if trigger is None else Cause(state.version, trigger)

    async def _take_request(self, state: LearnerState) -> Cause | None:
        request = await self._requests.next()
        return None if request is None else Cause(state.version, f"encoder set ({request.id})", request)

    async def _take_trigger(self) -> str | None:
        """The newest request that came after the last start, if there is one. Requests are events: SQL keeps them."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return None
        newest = await self._ledger.last_event_id()
        # A request counts if no start came after it. Both are in SQL, so a learner that takes over from one that died
        # neither forgets a request nor meets it twice.
        seen = max(0, newest - _EVENTS_KNOWN) if self._seen is None else self._seen
        trigger = None
        while page := await self._ledger.events(seen, _EVENT_PAGE) if seen < newest else []:
            for event in page:
                if event.type == CONSOLIDATION_ASKED:
                    trigger = str(event.payload["trigger"])
                elif event.type == CONSOLIDATION_STARTED:
                    trigger = None
            seen = page[-1].id
        self._seen, self._looked = seen, now  # only now: where a page cannot be read, all is read again
        return trigger

    async def is_asked(self) -> bool:
        """Whether a request for another encoder waits."""
        return await self._requests.waits()

    async def carry_out(self, runner: StepRunner, stream: FeedbackStream) -> None:
        """Does what was asked for, to its end; returns when nothing is asked for any more."""
        while (state := await runner.catch_up()) is not None and self._child is None:
            if (cause := await self._take_request(state)) is None:
                return
            child = await self.start(state, cause, stream)
            await asyncio.wait([child.relay])
            await self.conclude(runner)

    async def start(self, state: LearnerState, cause: Cause, stream: FeedbackStream) -> _Child:
        """Starts the child on the live version; it stands still while the stream tells of pressure."""
        self._seen = None  # should the start fail (a full disk), the request is looked for again, and found
        folder = self.prepare(state, cause)
        command = module_command("worker.consolidation", str(folder))
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        self._child = child = _Child(cause, folder, process)
        child.relay = asyncio.create_task(self._relay(child))
        child.pressure = asyncio.create_task(follow_pressure(folder, stream))
        # Not only a report: by this event the next learner knows that the request was met (`_take_trigger`).
        await self._tell(cause, "started", {"version": state.version, "trigger": cause.trigger})
        log.info(f"{cause.work}_started", version=state.version, trigger=cause.trigger, pid=process.pid)
        return child

    def prepare(self, state: LearnerState, cause: Cause) -> Path:
        """The folder of a new job on the live version."""
        folder = self._settings.home_path / "consolidations" / f"{state.version:08d}-{time.time_ns()}"
        folder.mkdir(parents=True)
        Job(
            version=state.version,
            trigger=cause.trigger,
            watermark=state.watermark,
            seed=self._settings.seed,
            parent=os.getpid(),  # the child ends when this process has died
            encoder=None if cause.request is None else cause.request.choice,
        ).write(folder)
        return folder

    async def conclude(self, runner: StepRunner) -> None:
        """Makes a candidate of the child's result and passes it through the gate. Failures leave all as it was."""
        child = self._child
        if child is None:
            return
        request = child.cause.request
        try:
            child.check()
            version = await self.adopt(runner, child.folder, child.cause)
            if request is not None and version is not None:
                await self._requests.settle(request, version)
        except Exception as error:
            if is_of_environment(error) and child.process.returncode == 0 and self._conclusions < _TRIES:
                self._conclusions += 1
                raise  # the work is done and kept: it is concluded once the environment is well
            log.exception(f"{child.cause.work}_failed")
            if request is not None:
                for_good = child.last is not None and child.last.for_good
                await self._requests.failed(request, str(error), for_good=for_good)
            await self._tell(child.cause, "failed", {"problem": str(error)[:500]})
        self._conclusions = 0
        self._clear()

    async def adopt(self, runner: StepRunner, folder: Path, cause: Cause) -> Version | None:
        """Passes the result of a job through the gate: the version, live or refused, or None where it made none.

        Raises what reading and publishing raise.
        """
        result = Result.read(folder)
        if result.encoder_digest == runner.live.encoder.digest and cause.request is None:
            runner.mark_consolidated(result.watermark)
            await self._ledger.append_event("consolidation_unchanged", {"metrics": result.metrics})
            log.info("consolidation_unchanged")  # training found nothing better than the encoder it started from
            return None
        encoder = await asyncio.to_thread(self._open_encoder, folder / ENCODER_FOLDER, result.encoder_digest)
        # Before the swap, which reads them: without the child's embeddings it would embed the whole store again.
        await self._samples.put_embeddings(encoder.digest, await asyncio.to_thread(read_embeddings, folder))
        for _ in range(_TRIES):
            try:
                return await self._swap.swap(runner, encoder, folder / ENCODER_FOLDER, result, cause)
            except ParentNotLive:  # a roll-back or another learner came in between
                await runner.catch_up()
        return None

    async def stop(self) -> None:
        """Ends a running child; the next start of the learner finds everything as it was before."""
        child = self._child
        if child is None:
            return
        if child.process.returncode is None:
            child.process.terminate()
            try:
                await asyncio.wait_for(child.process.wait(), _STOP_SECONDS)
            except TimeoutError:
                child.process.kill()
                await child.process.wait()
        child.relay.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await child.relay
        self._clear()

    async def _due(self, state: LearnerState) -> str | None:
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return None
        self._checked = now
        after, hours = self._settings.consolidate_after, self._settings.consolidate_age_hours
        if (not after and not hours) or state.encoder.dimension == 0:  # no encoder: nothing that could be trained
            return None
        # By `seq`, so the first of a page is its oldest; more than `after` need not be read to know that there are
        # enough.
        pages = [await self._samples.learned(task, state.encoder_watermark, max(after, 1)) for task in state.tasks]
        fresh = sum(len(page) for page in pages)
        if after and fresh >= after:
            return f"{fresh} samples the encoder has not seen"
        if hours and fresh:
            oldest = min(page[0].created_at for page in pages if page)
            if self._clock.now() - oldest > timedelta(hours=hours):
                return f"a sample the encoder has not seen is older than {hours} h"
        return None

    async def _relay(self, child: _Child) -> None:
        """Turns the child's lines into events, about one a second."""
        if child.process.stdout is None:
            raise RuntimeError("the child was started without a pipe")
        last_event = 0.0
        async for text in child.process.stdout:
            line = ProgressLine.parse(text)
            if line is None:
                continue
            new_phase = child.last is None or line.phase != child.last.phase
            child.last = line
            if new_phase or time.monotonic() - last_event > _EVENT_SECONDS:
                last_event = time.monotonic()
                with contextlib.suppress(PawlError):  # progress is for the eye; training goes on without SQL
                    await self._tell(child.cause, "progress", line.to_json())
        await child.process.wait()

    async def _tell(self, cause: Cause, what: str, payload: Json) -> None:
        request = cause.request
        about = {} if request is None else {"id": request.id, "encoder": request.choice.encoder}
        await self._ledger.append_event(f"{cause.work}_{what}", payload | about)

    def _clear(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.pressure.cancel()
            shutil.rmtree(child.folder, ignore_errors=True)

"""The parent's side of a new encoder, trained or chosen: starts the child, relays its progress, and turns its result
into a version.

The child (`python -m worker.consolidation`) has its own memory and its own crash. It writes into a job folder only, so
whatever happens to it, the live version and the store stay as they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog
from safetensors.numpy import load_file

from pawl.domain.encoders import EncoderRequest
from pawl.domain.errors import ParentNotLive, PawlError
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.domain.versions import CONSOLIDATION_ASKED, CONSOLIDATION_STARTED, Version
from pawl.ports import Encoder, FeedbackStream, Floats
from pawl.processes.children import module_command
from pawl.settings import Settings
from worker.consolidation.job import EMBEDDINGS_FILE, IDS_FILE, JOB_FILE, RESULT_FILE
from worker.consolidation.yielding import follow_pressure
from worker.health.faults import is_of_the_place
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.updates.encoder_requests import Requests
from worker.updates.encoder_swap import Cause, Succession
from worker.updates.head_update import Learning

_EVENT_SECONDS = 1.0
_CHECK_SECONDS = 5.0
_LOOK_SECONDS = 0.25
_EVENT_PAGE = 500
_EVENTS_KNOWN = 5_000
"""Events before its start in which a learner looks for a request that nobody has met."""
_STOP_SECONDS = 3.0
_TRIES = 3
log = structlog.get_logger(__name__)


class Consolidator:
    """At most one new encoder at a time: a consolidation, or one that somebody asked for."""

    def __init__(
        self,
        ports: LearnerPorts,
        succession: Succession,
        open_encoder: Callable[[Path, str], Encoder],
        settings: Settings,
    ) -> None:
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._succession = succession
        self._open_encoder = open_encoder
        self._clock = ports.clock
        self._settings = settings
        self._requests = Requests(ports.ledger)
        self._request: EncoderRequest | None = None
        self._folder: Path | None = None
        self._version = 0
        self._trigger = ""
        self._child: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._pressure: asyncio.Task[None] | None = None
        self._checked = self._looked = 0.0
        self._conclusions = 0
        self._seen: int | None = None
        self.progress: dict[str, Any] = {}
        """The child's last word, for the heartbeat."""

    @property
    def finished(self) -> bool:
        """Whether a child has ended and waits to be concluded."""
        return self._watch is not None and self._watch.done()

    async def wanted(self, state: LearnerState) -> bool:
        """Whether one is due: asked for by hand, enough new samples, or old enough ones."""
        if self._child is not None:
            return False  # a request made meanwhile stays where it is until this one is done
        self._trigger = await self._asked() or await self._due(state) or ""
        return bool(self._trigger)

    async def _asked(self) -> str | None:
        """The newest request that came after the last start, if there is one. Requests are events: SQL keeps them."""
        now = time.monotonic()
        if now - self._looked < _LOOK_SECONDS:
            return None
        newest = await self._ledger.last_event_id()
        seen = max(0, newest - _EVENTS_KNOWN) if self._seen is None else self._seen
        trigger = None
        while page := await self._ledger.events(seen, _EVENT_PAGE) if seen < newest else []:
            for event in page:
                if event.type == CONSOLIDATION_ASKED:
                    trigger = str(event.payload["trigger"])
                elif event.type == CONSOLIDATION_STARTED:
                    trigger = None
            seen = page[-1].id
        self._seen, self._looked = seen, now
        return trigger

    async def requested(self, state: LearnerState) -> bool:
        """Whether somebody asked for another encoder, and it is to be tried now."""
        if self._child is not None:
            return False
        self._request = await self._requests.next()
        if self._request is None:
            return False
        self._trigger = f"encoder set ({self._request.id})"
        return True

    async def is_asked(self) -> bool:
        """Whether a request for another encoder waits."""
        return await self._requests.waits()

    async def carry_out(self, learning: Learning, stream: FeedbackStream) -> None:
        """Does what was asked for, to its end; returns when nothing is asked for any more."""
        while (state := await learning.catch_up()) is not None and await self.requested(state):
            await self.start(state, stream)
            if self._watch is not None:
                await asyncio.wait([self._watch])
            await self.conclude(learning)

    async def start(self, state: LearnerState, stream: FeedbackStream) -> None:
        """Starts the child on the live version; it stands still while the stream tells of pressure."""
        self._folder = folder = self.prepare(state, self._trigger)
        self._version = state.version
        self._child = await asyncio.create_subprocess_exec(
            *module_command("worker.consolidation", str(folder)), stdout=asyncio.subprocess.PIPE
        )
        self._watch = asyncio.create_task(self._relay(self._child))
        self._pressure = asyncio.create_task(follow_pressure(folder, stream))
        await self._tell("started", {"version": state.version, "trigger": self._trigger})
        log.info(f"{self._what}_started", version=state.version, trigger=self._trigger, pid=self._child.pid)

    def prepare(self, state: LearnerState, trigger: str) -> Path:
        """The folder of a new job on the live version."""
        folder = self._settings.home_path / "consolidations" / f"{state.version:08d}-{time.time_ns()}"
        folder.mkdir(parents=True)
        job = {
            "version": state.version,
            "trigger": trigger,
            "watermark": state.watermark,
            "seed": self._settings.seed,
            "parent": os.getpid(),
            "encoder": None if self._request is None else asdict(self._request.choice),
        }
        (folder / JOB_FILE).write_text(json.dumps(job))
        return folder

    async def conclude(self, learning: Learning) -> None:
        """Makes a candidate of the child's result and passes it through the gate. Failures leave all as it was."""
        child, folder = self._child, self._folder
        if child is None or folder is None:
            return
        try:
            self._check(child)
            version = await self.adopt(learning, folder, Cause(self._version, self._trigger, self._request))
            if self._request is not None and version is not None:
                await self._requests.settle(self._request, version)
        except Exception as error:
            if is_of_the_place(error) and child.returncode == 0 and self._conclusions < _TRIES:
                self._conclusions += 1
                raise  # the work is done and kept: it is concluded once the place is well
            log.exception(f"{self._what}_failed")
            if self._request is not None:
                await self._requests.failed(self._request, str(error), for_good=bool(self.progress.get("for_good")))
            await self._tell("failed", {"problem": str(error)[:500]})
        self._conclusions = 0
        self._clear()

    async def adopt(self, learning: Learning, folder: Path, cause: Cause) -> Version | None:
        """Passes the result of a job through the gate: the version, live or refused, or None where it made none.

        Raises what reading and publishing raise.
        """
        state = learning.state
        if state is None:
            raise RuntimeError("there is no live version to consolidate")
        result = json.loads((folder / RESULT_FILE).read_text())
        if result["encoder_digest"] == state.encoder.digest and cause.request is None:
            state.encoder_watermark = int(result["watermark"])  # tried: not again for the same samples
            await self._ledger.append_event("consolidation_unchanged", {"metrics": result["metrics"]})
            log.info("consolidation_unchanged")  # training found nothing better than the encoder it started from
            return None
        encoder = await asyncio.to_thread(self._open_encoder, folder / ENCODER_FOLDER, result["encoder_digest"])
        embeddings = await asyncio.to_thread(_embeddings, folder)
        await self._samples.put_embeddings(encoder.digest, embeddings)
        for _ in range(_TRIES):
            try:
                return await self._succession.take_over(learning, encoder, folder / ENCODER_FOLDER, result, cause)
            except ParentNotLive:  # a roll-back or another learner came in between
                await learning.catch_up()
        return None

    async def stop(self) -> None:
        """Ends a running child; the next start of the learner finds everything as it was before."""
        if self._child is not None and self._child.returncode is None:
            self._child.terminate()
            try:
                await asyncio.wait_for(self._child.wait(), _STOP_SECONDS)
            except TimeoutError:
                self._child.kill()
                await self._child.wait()
        if self._watch is not None:
            self._watch.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watch
        self._clear()

    async def _due(self, state: LearnerState) -> str | None:
        now = time.monotonic()
        if now - self._checked < _CHECK_SECONDS:
            return None
        self._checked = now
        after, hours = self._settings.consolidate_after, self._settings.consolidate_age_hours
        if not after and not hours:
            return None
        pages = [await self._samples.learned(task, state.encoder_watermark, max(after, 1)) for task in state.tasks]
        fresh = sum(len(page) for page in pages)
        if after and fresh >= after:
            return f"{fresh} samples the encoder has not seen"
        if hours and fresh:
            oldest = min(page[0].created_at for page in pages if page)
            if self._clock.now() - oldest > timedelta(hours=hours):
                return f"a sample the encoder has not seen is older than {hours} h"
        return None

    async def _relay(self, child: asyncio.subprocess.Process) -> None:
        """Turns the child's lines into events, about one a second."""
        if child.stdout is None:
            raise RuntimeError("the child was started without a pipe")
        told = 0.0
        async for line in child.stdout:
            try:
                said = json.loads(line)
            except ValueError:
                continue
            new_phase = said.get("phase") != self.progress.get("phase")
            self.progress = said | {"work": self._what}
            if new_phase or time.monotonic() - told > _EVENT_SECONDS:
                told = time.monotonic()
                with contextlib.suppress(PawlError):  # progress is for the eye; training goes on without SQL
                    await self._tell("progress", said)
        await child.wait()

    @property
    def _what(self) -> str:
        return "consolidation" if self._request is None else "encoder"

    async def _tell(self, what: str, payload: dict[str, Any]) -> None:
        about = {} if self._request is None else {"id": self._request.id, "encoder": self._request.choice.encoder}
        await self._ledger.append_event(f"{self._what}_{what}", payload | about)

    def _check(self, child: asyncio.subprocess.Process) -> None:
        if child.returncode != 0:
            problem = self.progress.get("problem", "see the worker's log")
            raise RuntimeError(f"the child ended with {child.returncode}: {problem}")

    def _clear(self) -> None:
        if self._pressure is not None:
            self._pressure.cancel()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = self._child = self._watch = self._pressure = self._request = None
        self.progress = {}


def _embeddings(folder: Path) -> dict[str, Floats]:
    ids = json.loads((folder / IDS_FILE).read_text())
    z = load_file(folder / EMBEDDINGS_FILE)["z"]
    return dict(zip(ids, z, strict=True))

"""Work for quiet moments: choosing lambda again, snapshots, retention, measuring a doubtful backend again.

It gives way as soon as feedback comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import structlog

from pawl.backoff import Backoff
from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.domain.errors import ParentNotLive, StoreUnavailable
from pawl.settings import Settings
from worker.health.environment import FILING, HOUSEKEEPING, Environment
from worker.health.throttle import Throttle
from worker.release.publisher import Publisher
from worker.state.snapshots import Snapshot, Snapshots
from worker.updates.retuning import Retuning
from worker.updates.step_runner import StepRunner

_QUIET = Backoff(rest=0.5, first=1.0, longest=8.0)
"""Seconds without feedback before maintenance starts. They double after each interrupted job, because feedback waits
for a job to give way: under a steady trickle of it every job would be begun again in each gap and never be done.
"""
_REVIEW = Backoff(rest=60.0, first=120.0, longest=3600.0)
"""Seconds between two looks at the choice of a backend; they double while it stays doubtful."""
log = structlog.get_logger(__name__)

Review = Callable[[Path, str, Callable[[], bool]], Comparison | None]
"""(encoder folder, digest, stop) -> what was measured, if it was."""


class Filing:
    """Writes snapshots and removes artefacts that retention does not keep. `protected` are versions it must keep."""

    def __init__(self, snapshots: Snapshots, publisher: Publisher, protected: Callable[[], frozenset[int]]) -> None:
        self._snapshots = snapshots
        self._publisher = publisher
        self._protected = protected

    async def write(self, snapshot: Snapshot) -> None:
        """Raises what the disk raises."""
        path = await asyncio.to_thread(self._snapshots.write, snapshot)
        log.info("snapshot", version=snapshot.version, bytes=path.stat().st_size)

    async def run(self, snapshot: Snapshot | None) -> None:
        """Raises what the disk and the stores raise."""
        if snapshot is not None:
            await self.write(snapshot)
        removed = await self._publisher.retire_old(self._protected())
        if removed:
            log.info("artefacts_removed", versions=len(removed))


class Maintenance:
    """Runs jobs in the background, one of each kind at a time.

    An exclusive job has the learner's state in hand: `pause` waits until it has given way. A filing job only moves
    files; nobody waits for it but the end of the process.
    """

    def __init__(
        self, runner: StepRunner, retuning: Retuning, environment: Environment, filing: Filing, review: Review,
        settings: Settings,
    ) -> None:  # fmt: skip
        self._runner = runner
        self._retuning = retuning
        self._environment = environment
        self._filing = filing
        self._review = review
        self._settings = settings
        # Not asyncio's: jobs ask it in threads, between two factorisations of a search for lambda.
        self._interrupted = threading.Event()
        self._exclusive: asyncio.Task[None] | None = None
        self._filing_job: asyncio.Task[None] | None = None
        self._throttle = Throttle()
        self._throttle.defer("backend")  # not while all parts start
        self._review_pause = replace(_REVIEW)
        self._busy_at = time.monotonic()
        self._quiet = replace(_QUIET)

    @property
    def is_busy(self) -> bool:
        """Whether a job has the state in hand."""
        return self._exclusive is not None and not self._exclusive.done()

    def interrupt(self) -> None:
        """Asks the exclusive job to give way; callable from a signal handler."""
        self._interrupted.set()

    async def pause(self) -> None:
        """Interrupts the exclusive job and waits until it has let go of the state."""
        self._busy_at = time.monotonic()
        self._interrupted.set()
        if self.is_busy:
            self._quiet.next_pause()
        # Waited for, not cancelled: a thread cannot be, and would go on moving models while a step is proposed on them.
        if self._exclusive is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._exclusive
            self._exclusive = None

    def resume(self) -> None:
        """Starts the next job if it has been quiet for a moment and none is running."""
        if not self.is_busy and time.monotonic() - self._busy_at > self._quiet.pause:
            self._interrupted.clear()
            self._exclusive = asyncio.create_task(self._work())

    async def finish(self) -> None:
        """Before the process ends: gives way and keeps a snapshot, so that the next start is quick."""
        await self.pause()
        if self._filing_job is not None:
            await self._filing_job
        if self._runner.state is not None and self._runner.state.unsaved:
            try:
                await self._filing.write(await self._runner.take_snapshot())
            except Exception as error:  # noqa: BLE001 - a snapshot is a cache: without it the next start takes longer
                log.warning("snapshot_failed", problem=str(error))

    async def _work(self) -> None:
        try:
            if self._throttle.acquire("golden", 10.0):
                await self._runner.refresh_golden()
            await self._retuning.maintain(self._interrupted.is_set)
        except ParentNotLive as error:
            log.info("another_learner_was_faster", problem=str(error))
            return
        except Exception as error:  # noqa: BLE001 - no job is worth the learner; this one is tried again
            await self._failed(error)
            return
        await self._environment.recover(HOUSEKEEPING)
        if not self._interrupted.is_set():
            self._quiet.reset()
        if self._filing_job is not None and not self._filing_job.done():
            return
        # Filing jobs are not exclusive: a snapshot is a copy, and a correction must not wait for the disk.
        state = self._runner.state
        if state is not None and state.unsaved >= self._settings.snapshot_every:
            # The copy is made in this job, which is exclusive: no step moves the matrices while they are copied.
            self._filing_job = asyncio.create_task(self._file(await self._runner.take_snapshot()))
        elif self._throttle.acquire("retention", 5.0):
            self._filing_job = asyncio.create_task(self._file(None))
        elif state is not None and self._throttle.acquire("backend", self._review_pause.pause):
            self._filing_job = asyncio.create_task(self._review_backend(state.encoder_folder, state.encoder.digest))

    async def _file(self, snapshot: Snapshot | None) -> None:
        try:
            await self._filing.run(snapshot)
        except Exception as error:  # noqa: BLE001 - tried again later
            await self._failed(error, FILING)
        else:
            await self._environment.recover(FILING)

    async def _review_backend(self, folder: Path, digest: str) -> None:
        try:
            comparison = await asyncio.to_thread(self._review, folder, digest, self._interrupted.is_set)
        except Exception as error:  # noqa: BLE001 - the choice that is kept goes on
            log.warning("backend_review_failed", problem=str(error))
        else:
            if comparison is not None and comparison.doubt:
                self._review_pause.next_pause()
            else:
                self._review_pause.reset()

    async def _failed(self, error: Exception, doing: str = HOUSEKEEPING) -> None:
        """Waits longer before the next try. A server that is away is not reported: the heartbeat does that."""
        self._busy_at = time.monotonic()
        self._quiet.next_pause()
        if isinstance(error, StoreUnavailable | ConnectionError):
            log.warning("housekeeping_failed", doing=doing, problem=str(error))
        else:
            await self._environment.report(error, doing)

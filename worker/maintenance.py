"""Work for quiet moments: choosing lambda again, snapshots, retention, the choice of a backend measured again. It gives
way as soon as feedback comes.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path

import structlog

from pawl.classifier.encoders.choice.comparison import Comparison
from pawl.domain.errors import ParentNotLive, StoreUnavailable
from pawl.settings import Settings
from worker.health.trouble import FILING, HOUSEKEEPING, Place
from worker.release.publisher import Publisher
from worker.state.learner_state import LearnerState
from worker.state.snapshots import Packed, Snapshots, pack
from worker.updates.retuning import Tuning

_QUIET = 0.5
"""Seconds without feedback before housekeeping starts."""
_LONGEST_QUIET = 8.0
"""... at most: after each chore that was interrupted it waits twice as long, because the one who interrupts it waits
too, and under a steady trickle of feedback every chore would be begun again in each gap and never be done."""
_FIRST_REVIEW, _LAST_REVIEW = 60.0, 3600.0
"""Seconds between two looks at a doubtful choice of a backend; they double while it stays doubtful."""
log = structlog.get_logger(__name__)

Review = Callable[[Path, str, Callable[[], bool]], Comparison | None]
"""(encoder folder, digest, stop) -> what was measured, if it was."""


class Housekeeping:
    """Runs one chore at a time in the background; `pause` waits until it has given way.

    A chore has the state in hand. What only moves files is an errand, and nobody waits for it but the end.
    """

    def __init__(
        self,
        tuning: Tuning,
        publisher: Publisher,
        snapshots: Snapshots,
        place: Place,
        review: Review,
        settings: Settings,
    ) -> None:
        self._tuning = tuning
        self._publisher = publisher
        self._snapshots = snapshots
        self._place = place
        self._review = review
        self._review_pause = _FIRST_REVIEW
        self._settings = settings
        self._interrupted = threading.Event()
        self._chore: asyncio.Task[None] | None = None
        self._errand: asyncio.Task[None] | None = None
        self._last: dict[str, float] = {"backend": time.monotonic()}  # not while all parts start
        self._busy_at = time.monotonic()
        self._quiet = _QUIET

    @property
    def busy(self) -> bool:
        """Whether a chore has the state in hand."""
        return self._chore is not None and not self._chore.done()

    def due(self, what: str, seconds: float) -> bool:
        """Whether `seconds` have passed since this was last due."""
        now = time.monotonic()
        if now - self._last.get(what, 0.0) < seconds:
            return False
        self._last[what] = now
        return True

    def interrupt(self) -> None:
        """Asks the chore in hand to give way; callable from a signal handler."""
        self._interrupted.set()

    async def pause(self) -> None:
        """Interrupts the chore in hand and waits until it has let go of the state."""
        self._busy_at = time.monotonic()
        self._interrupted.set()
        self._quiet = min(2 * self._quiet, _LONGEST_QUIET) if self.busy else self._quiet
        if self._chore is not None:
            with contextlib.suppress(asyncio.CancelledError):
                await self._chore
            self._chore = None

    def resume(self, state: LearnerState | None) -> None:
        """Starts the next chore if it has been quiet for a moment and none is running."""
        if not self.busy and time.monotonic() - self._busy_at > self._quiet:
            self._interrupted.clear()
            self._chore = asyncio.create_task(self._work(state))

    async def finish(self, state: LearnerState | None) -> None:
        """Before the process ends: gives way and keeps a snapshot, so that the next start is quick."""
        await self.pause()
        if self._errand is not None:
            await self._errand
        if state is not None and state.unsaved:
            try:
                await asyncio.to_thread(self._snapshots.save, state)
            except Exception as error:  # noqa: BLE001 - a cache: the next start takes longer
                log.warning("snapshot_failed", problem=str(error))
            state.unsaved = 0

    async def _work(self, state: LearnerState | None) -> None:
        try:
            if self.due("golden", 10.0):
                await self._tuning.seat_golden()
            await self._tuning.maintain(self._interrupted.is_set)
        except ParentNotLive as error:
            log.info("another_learner_was_faster", problem=str(error))
            return
        except Exception as error:  # noqa: BLE001 - no chore is worth the learner; this one is tried again
            await self._failed(error)
            return
        await self._place.recover(HOUSEKEEPING)
        if not self._interrupted.is_set():
            self._quiet = _QUIET
        packed = None
        if state is not None and state.unsaved >= self._settings.snapshot_every and not self._filing:
            packed = await asyncio.to_thread(pack, state)
            state.unsaved = 0
        if packed is not None or (not self._filing and self.due("retention", 5.0)):
            # Not a chore: what is copied needs the state no more, and a correction must not wait for the disk.
            self._errand = asyncio.create_task(self._file(packed))
        elif state is not None and not self._filing and self.due("backend", self._review_pause):
            self._errand = asyncio.create_task(self._review_backend(state.encoder_folder, state.encoder.digest))

    @property
    def _filing(self) -> bool:
        return self._errand is not None and not self._errand.done()

    async def _file(self, packed: Packed | None) -> None:
        try:
            if packed is not None:
                path = await asyncio.to_thread(self._snapshots.write, packed)
                log.info("snapshot", version=packed.about["version"], bytes=path.stat().st_size)
            gone = await self._publisher.retire_old()
            if gone:
                log.info("artefacts_removed", versions=len(gone))
        except Exception as error:  # noqa: BLE001
            await self._failed(error, FILING)
        else:
            await self._place.recover(FILING)

    async def _review_backend(self, folder: Path, digest: str) -> None:
        """An errand as well: it gives way after a round, and nobody waits for it."""
        try:
            found = await asyncio.to_thread(self._review, folder, digest, self._interrupted.is_set)
        except Exception as error:  # noqa: BLE001 - the choice that is kept goes on
            log.warning("backend_review_failed", problem=str(error))
        else:
            doubtful = found is not None and found.doubt
            self._review_pause = min(2 * self._review_pause, _LAST_REVIEW) if doubtful else _FIRST_REVIEW

    async def _failed(self, error: Exception, doing: str = HOUSEKEEPING) -> None:
        """Waits longer before the next try; what is no server's is told."""
        self._busy_at, self._quiet = time.monotonic(), min(2 * self._quiet, _LONGEST_QUIET)
        if isinstance(error, StoreUnavailable | ConnectionError):
            log.warning("housekeeping_failed", doing=doing, problem=str(error))
        else:
            await self._place.report(error, doing)

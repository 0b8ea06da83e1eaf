"""The child pauses while predictions wait: it shares a device with the service, which comes first.

The learner, which can reach Redis, touches a file in the job's folder as long as predictions wait. The child looks at
the file between two steps. So no step is interrupted, and a child whose learner has died goes on until it notices that,
where one that was stopped by a signal would stay stopped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pawl.ports import FeedbackStream

PAUSE_FILE = "pause"
_EVERY_SECONDS = 0.1
_HOLDS_SECONDS = 0.5  # an older touch means that the pressure has ended, or the learner has
_LONGEST_SECONDS = 2.0  # then it goes on for half as long: under load without end it still gets a third of its time


async def follow_pressure(folder: Path, stream: FeedbackStream) -> None:
    """The learner's side: touches the file while the stream tells of pressure, until it is cancelled.

    Without Redis there is no pressure, and training goes on.
    """
    while True:
        with suppress(ConnectionError, FileNotFoundError):  # the folder goes when the job is done
            # Touched again and again instead of made and removed: a learner that dies leaves no pause behind.
            if await stream.under_pressure():
                (folder / PAUSE_FILE).touch()
        await asyncio.sleep(_EVERY_SECONDS)


class Turns:
    """The child's side."""

    def __init__(
        self, folder: Path, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._file = folder / PAUSE_FILE
        self._now = now  # wall-clock time, since it is compared with the time of a file
        self._sleep = sleep
        self._next = 0.0

    def take(self) -> None:
        """Waits while there is pressure, at most two seconds; then not again for half the time that it waited."""
        begun = self._now()
        if begun < self._next or not self._pressed():
            return
        while self._pressed() and self._now() - begun < _LONGEST_SECONDS:
            self._sleep(_EVERY_SECONDS)
        ended = self._now()
        self._next = ended + (ended - begun) / 2

    def _pressed(self) -> bool:
        try:
            return self._now() - self._file.stat().st_mtime < _HOLDS_SECONDS
        except FileNotFoundError:
            return False

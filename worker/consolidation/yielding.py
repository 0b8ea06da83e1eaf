"""Standing still while answers wait: parent and child share a device with the service, and it comes first.

The parent, which can reach Redis, touches a file in the job's folder as long as there is pressure; the child looks at
it between two steps. So no step is cut in half, and a child whose parent has died does not stand still for ever, as one
stopped by a signal would.
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
_HOLDS_SECONDS = 0.5
_LONGEST_SECONDS = 2.0  # then it goes on for half as long: under load without end it still gets a third of its time


async def follow_pressure(folder: Path, stream: FeedbackStream) -> None:
    """The parent's side, until it is cancelled. Without Redis there is no pressure: learning goes on."""
    while True:
        with suppress(ConnectionError, FileNotFoundError):  # the folder goes when the job is done
            if await stream.under_pressure():
                (folder / PAUSE_FILE).touch()
        await asyncio.sleep(_EVERY_SECONDS)


class Turns:
    """The child's side. `waited` is the time it stood still, in seconds."""

    def __init__(
        self, folder: Path, now: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._file = folder / PAUSE_FILE
        self._now = now
        self._sleep = sleep
        self._next = 0.0
        self.waited = 0.0

    def take(self) -> None:
        """Returns when there is no pressure, and after two seconds whatever there is."""
        begun = self._now()
        if begun < self._next or not self._pressed():
            return
        while self._pressed() and self._now() - begun < _LONGEST_SECONDS:
            self._sleep(_EVERY_SECONDS)
        ended = self._now()
        self.waited += ended - begun
        self._next = ended + (ended - begun) / 2

    def _pressed(self) -> bool:
        try:
            return self._now() - self._file.stat().st_mtime < _HOLDS_SECONDS
        except FileNotFoundError:
            return False

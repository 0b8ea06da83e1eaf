"""How long to wait before something that failed is tried again."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass

_MOST_STEPS = 1000  # factor ** failures would overflow a float some time


@dataclass(slots=True)
class Backoff:
    """Exponential back-off: pauses that grow with each failure in a row, until `reset`.

    The pause after failure n (from 1) is first * factor ** (n - 1) seconds, at most `longest`; before one, `rest`.
    """

    first: float = 0.1
    longest: float = 30.0
    factor: float = 2.0
    failures: int = 0
    """Failures in a row."""
    rest: float = 0.0

    def next_pause(self) -> float:
        """Counts one more failure and returns the seconds to wait after it."""
        self.failures += 1
        return self.pause

    @property
    def pause(self) -> float:
        """Seconds to wait after the failures until now."""
        if not self.failures:
            return self.rest
        return min(self.longest, self.first * self.factor ** min(self.failures - 1, _MOST_STEPS))

    def reset(self) -> None:
        """Forgets the failures, because a try succeeded."""
        self.failures = 0


async def pause_unless(ending: asyncio.Event, seconds: float) -> None:
    """Waits for so many seconds, or until the event is set."""
    with suppress(TimeoutError):
        await asyncio.wait_for(ending.wait(), seconds)

"""How often recurring work may be done."""

from __future__ import annotations

import time


class Throttle:
    """Remembers when each piece of work, by name, was last done."""

    def __init__(self) -> None:
        self._last: dict[str, float] = {}

    def acquire(self, name: str, seconds: float) -> bool:
        """True, and the work counts as done now, if `seconds` have passed since it was last; else false."""
        now = time.monotonic()
        if now - self._last.get(name, 0.0) < seconds:
            return False
        self._last[name] = now
        return True

    def defer(self, name: str) -> None:
        """The work counts as done now."""
        self._last[name] = time.monotonic()

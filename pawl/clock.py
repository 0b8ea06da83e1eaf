"""The time: a protocol, so that tests can set it, and the machine's clock."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """The time, in UTC, with a timezone."""

    def now(self) -> datetime:
        """The present moment."""


class SystemClock:
    """The machine's clock. Implements `Clock`."""

    def now(self) -> datetime:
        """The present moment."""
        return datetime.now(UTC)

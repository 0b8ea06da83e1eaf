"""The time."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """The time, in UTC, with a timezone."""

    def now(self) -> datetime:
        """The present moment."""

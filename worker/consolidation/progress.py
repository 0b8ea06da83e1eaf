"""What the child says on stdout: one JSON object a line."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO


class Progress:
    """Writes progress lines, at most about two a second, and measures how long each phase takes."""

    def __init__(self, stream: TextIO, interval: float = 0.5, take_turn: Callable[[], object] = lambda: None) -> None:
        self._stream = stream
        self._take_turn = take_turn
        self._interval = interval
        self._written = 0.0
        self.wall_s: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str, total: int = 0) -> Iterator[None]:
        """Announces a phase and notes its wall time in seconds."""
        self.write(name, 0, total)
        started = time.monotonic()
        yield
        self.wall_s[name] = round(time.monotonic() - started, 3)

    def due(self) -> bool:
        """Called between two steps: takes its turn with the service, then says whether another line is due."""
        self._take_turn()
        return time.monotonic() - self._written >= self._interval

    def write(self, phase: str, done: int, total: int, **metrics: float | str) -> None:
        """Writes one line at once."""
        self._written = time.monotonic()
        line = json.dumps({"phase": phase, "done": done, "total": total, **metrics}, allow_nan=False)
        self._stream.write(line + "\n")
        self._stream.flush()

    def failed(self, problem: str, *, for_good: bool = False) -> None:
        """Writes the last line of a run that failed; `for_good`: it would fail again, whatever the machine is like."""
        told = {"phase": "failed", "problem": problem} | ({"for_good": True} if for_good else {})
        self._stream.write(json.dumps(told) + "\n")
        self._stream.flush()

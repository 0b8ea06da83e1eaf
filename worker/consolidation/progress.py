"""What the child says on stdout: one JSON object a line, written by `Progress` and read as `ProgressLine`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from pydantic import BaseModel, ConfigDict, ValidationError

from pawl.json_values import Json

FAILED = "failed"
_INTERVAL_SECONDS = 0.5


class ProgressLine(BaseModel):
    """`done` of `total` in a phase, and its metrics as further fields. The phase `failed` is the last one of a run.

    `for_good`: it would fail again, whatever the machine is like.
    """

    model_config = ConfigDict(frozen=True, extra="allow")
    phase: str
    done: int = 0
    total: int = 0
    problem: str | None = None
    for_good: bool = False

    @staticmethod
    def parse(line: bytes) -> ProgressLine | None:
        """The line, or None for one that is not of the child's making."""
        try:
            return ProgressLine.model_validate_json(line)
        except ValidationError:
            # A line cut by the death of the child, or one of another Pawl: never a reason to fail the job.
            return None

    def to_json(self) -> Json:
        """The fields that were given."""
        return self.model_dump(exclude_unset=True)


class Progress:
    """Writes progress lines, at most about two a second, and measures how long each phase takes."""

    def __init__(self, stream: TextIO, take_turn: Callable[[], object] = lambda: None) -> None:
        self._stream = stream
        self._take_turn = take_turn
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
        return time.monotonic() - self._written >= _INTERVAL_SECONDS

    def write(self, phase: str, done: int, total: int, **metrics: float | str) -> None:
        """Writes one line at once."""
        self._written = time.monotonic()
        self._say({"phase": phase, "done": done, "total": total, **metrics})

    def failed(self, problem: str, *, for_good: bool = False) -> None:
        """Writes the last line of a run that failed; `for_good`: it would fail again, whatever the machine is like."""
        self._say({"phase": FAILED, "problem": problem} | ({"for_good": True} if for_good else {}))

    def _say(self, fields: Json) -> None:
        self._stream.write(ProgressLine.model_validate(fields).model_dump_json(exclude_unset=True) + "\n")
        self._stream.flush()

"""How the parts of a `pawl up` are: written by its supervisor into the home, read by the service and by commands."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pawl.files import write_atomic

PARTS_FILE = "parts.json"


class PartState(StrEnum):
    """What a part does."""

    RUNNING = "running"
    WAITING = "waiting"
    """It ended; `next_start` says when it is started again."""


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process.

    `failures` counts its ends in a row; one that has run for a while since is forgiven, and it is 0 again. `restarts`
    counts since the supervisor started. `last_end` says how it ended last.
    """

    name: str
    state: PartState
    since: datetime
    restarts: int
    failures: int
    last_end: str | None = None
    next_start: datetime | None = None

    @property
    def is_well(self) -> bool:
        """Whether it runs and has not ended lately."""
        return self.state is PartState.RUNNING and not self.failures

    def told(self) -> str:
        """How it is, for people."""
        if self.is_well:
            return "running" + (f", restarted {self.restarts} times" if self.restarts else "")
        now = "waits to be started again" if self.state is PartState.WAITING else "started again"
        return f"{now}; ends in a row: {self.failures}, the last with {self.last_end}"


def write_parts(home: Path, parts: list[Part]) -> None:
    """Replaces the file in one step. Raises `OSError`."""
    content = {"supervisor": os.getpid(), "parts": [asdict(part) for part in parts]}
    write_atomic(home / PARTS_FILE, json.dumps(content, default=str), durable=False)  # it is of this supervisor alone


def read_parts(home: Path) -> list[Part]:
    """The parts of the supervisor that runs on this home; none where none runs."""
    try:
        content = json.loads((home / PARTS_FILE).read_text(encoding="utf-8"))
        if not _runs(int(content["supervisor"])):
            return []
        return [_part(**one) for one in content["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _part(since: str, state: str, next_start: str | None = None, **rest: Any) -> Part:
    again = datetime.fromisoformat(next_start) if next_start is not None else None
    return Part(since=datetime.fromisoformat(since), state=PartState(state), next_start=again, **rest)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True

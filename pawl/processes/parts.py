"""The state of each part (supervised process) of a `pawl up`.

The supervisor writes it into the home; the service and the commands read it.
"""

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
    """Whether a part runs."""

    RUNNING = "running"
    WAITING = "waiting"
    """It ended; `next_start` says when it is started again."""


@dataclass(frozen=True, slots=True)
class Part:
    """One supervised process.

    `failures` counts its ends in a row, and is 0 again once the process has run for a while. `restarts` counts since
    the supervisor started. `last_end` says how the process ended last.
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
        """Says how it is, for people."""
        if self.is_well:
            return "running" + (f", restarted {self.restarts} times" if self.restarts else "")
        now = "waits to be started again" if self.state is PartState.WAITING else "started again"
        return f"{now}; ends in a row: {self.failures}, the last with {self.last_end}"


def write_parts(home: Path, parts: list[Part]) -> None:
    """Replaces the file in one step. Raises `OSError`."""
    content = {"supervisor": os.getpid(), "parts": [asdict(part) for part in parts]}
    write_atomic(home / PARTS_FILE, json.dumps(content, default=str), durable=False)  # it is of this supervisor alone


def read_parts(home: Path) -> list[Part]:
    """Reads the parts of the supervisor that runs on this home; empty where none runs."""
    try:
        content = json.loads((home / PARTS_FILE).read_text(encoding="utf-8"))
        if not _runs(int(content["supervisor"])):
            return []
        return [_part(**part) for part in content["parts"]]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _part(since: str, state: str, next_start: str | None = None, **rest: Any) -> Part:
    again = datetime.fromisoformat(next_start) if next_start is not None else None
    return Part(since=datetime.fromisoformat(since), state=PartState(state), next_start=again, **rest)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)  # signal 0 is not sent: the call only asks whether the process exists
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True

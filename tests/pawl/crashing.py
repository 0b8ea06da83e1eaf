"""A machine that stops between two steps of the file system."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

STEPS = ("open", "fsync", "link", "replace", "mkdir", "unlink", "rmdir", "fchmod")


class Crash(BaseException):
    """The process is gone; no `except Exception` sees it."""


class Machine:
    """Stops at a given file system step, before or after doing it; every later step fails as well."""

    def __init__(self, stop_at: int, *, after: bool) -> None:
        self.stop_at, self.after = stop_at, after
        self.steps = 0
        self.durable: set[int] = set()

    def finishes(self, action: Callable[[], object]) -> bool:
        """Whether the action ends before the machine stops."""
        with pytest.MonkeyPatch.context() as patch:
            for name in STEPS:
                patch.setattr(os, name, self._wrap(name, getattr(os, name)))
            try:
                action()
            except Crash:
                return False
        return True

    def _wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.steps += 1
            if self.steps > self.stop_at or (self.steps == self.stop_at and not self.after):
                raise Crash
            result = real(*args, **kwargs)
            if name == "fsync":
                self.durable.add(os.fstat(args[0]).st_ino)
            if self.steps == self.stop_at:
                raise Crash
            return result

        return call

    def lose_power(self, root: Path, safe: set[int]) -> None:
        """What was never fsynced is lost: such files are cut to half."""
        for path in root.rglob("*"):
            if path.is_file() and path.name != ".lock" and path.stat().st_ino not in safe | self.durable:
                path.chmod(0o644)
                os.truncate(path, path.stat().st_size // 2)

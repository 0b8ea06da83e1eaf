"""Folders that are made once in a run of the tests and read by all its pytest processes."""

from __future__ import annotations

import atexit
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

_ROOT = "TESTS_SHARED_FOLDER"


def shared_root() -> Path:
    """The folder of this run. Who asks first makes it, and removes it in the end; the processes it starts find it."""
    if _ROOT not in os.environ:
        os.environ[_ROOT] = tempfile.mkdtemp(prefix="pawl-tests-")
        atexit.register(shutil.rmtree, os.environ[_ROOT], ignore_errors=True)
    return Path(os.environ[_ROOT])


def shared(name: str, make: Callable[[Path], None]) -> Path:
    """The folder of that name, only to be read. Whoever asks first makes it; others wait until it is there."""
    folder = shared_root() / name
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = folder.with_suffix(".made")
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of one that failed
            folder.mkdir()
            make(folder)
            made.touch()
    return folder

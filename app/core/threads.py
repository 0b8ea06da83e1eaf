"""How many threads the numerics of a process get."""

from __future__ import annotations

import os


def thread_count(setting: int) -> int:
    """Threads for the numerics; 0 means one for each core this process may use."""
    return setting or len(os.sched_getaffinity(0))

"""How many threads the numerics of a process get."""

from __future__ import annotations

import os

import threadpoolctl


def thread_count(setting: int) -> int:
    """Returns the number of threads that a setting means; 0 means one for each core that this process may use."""
    # Not `os.cpu_count`: a container or `taskset` may give the process a part of the machine's cores.
    return setting or len(os.sched_getaffinity(0))


def calm_blas() -> None:
    """Gives numpy's matrix products one thread from now on; encoders and torch have threads of their own.

    The products are small (a batch of embeddings times a head). After each, OpenBLAS's other threads spin for a while
    on the cores that embed: a correction took the learner 140 ms of CPU time instead of 65.
    """
    threadpoolctl.threadpool_limits(1, user_api="blas")

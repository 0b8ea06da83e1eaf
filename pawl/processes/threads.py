"""How many threads the numerics of a process get."""

from __future__ import annotations

import os

import threadpoolctl


def thread_count(setting: int) -> int:
    """Threads for the numerics; 0 means one for each core this process may use."""
    return setting or len(os.sched_getaffinity(0))


def calm_blas() -> None:
    """One thread for numpy's matrix products from now on; the encoder's and torch's threads are others.

    The products are small here (a batch of embeddings times a head), and OpenBLAS's other threads spin for a while
    after each, on the cores that embed: a correction took the learner 140 ms of CPU time instead of 65.
    """
    threadpoolctl.threadpool_limits(1, user_api="blas")

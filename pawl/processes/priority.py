"""Lowers a process's priority, so that a learner leaves the cores to the app (ADR 0018)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

# By number: Python has no function for this system call, and glibc has one only since 2.41.
_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period, two utilisations."""
_LONGEST_SLICE_NS = 100_000_000


def stand_back(niceness: int) -> None:
    """Raises this process's niceness by so much, and asks for the longest time slice.

    Linux lets a task finish its slice before another one that wakes gets the core, unless that one has a shorter
    slice: the event loop and the encoder's threads waited up to 1.4 ms for the learner whenever they woke. A task with
    the longest slice gives way to all others at once; its share of the time is that of its niceness. Kernels before
    6.12 and other systems have no slices for single tasks; there only the niceness counts.
    """
    now = os.nice(niceness)
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, now, 0, _LONGEST_SLICE_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(
        number, 0, wanted, 0
    )  # may be refused, by a seccomp filter for example; then only the niceness counts

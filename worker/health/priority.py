"""Answers come first: how a learner shares a machine's cores with the app (ADR 0018)."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys

_SCHED_SETATTR = {"x86_64": 314, "aarch64": 274}
_ATTRIBUTES = struct.Struct("=IIQiIQQQII")
"""`struct sched_attr`: size, policy, flags, nice, priority, runtime, deadline, period, two utilisations."""
_LONGEST_SLICE_NS = 100_000_000


def stand_back(niceness: int) -> None:
    """Raises this process's niceness by so much, and gives way at once where someone else's thread wakes.

    Linux lets a task finish its slice before another that wakes gets the core, unless that one asks for a shorter
    slice: the event loop and the encoder's threads waited up to 1.4 ms for the learner whenever they woke. With the
    longest slice there is, the learner is put off by everyone; its share of the time is that of its niceness as
    before. Kernels before 6.12 (and other systems) know no slices of one task: there niceness has to do.
    """
    now = os.nice(niceness)
    number = _SCHED_SETATTR.get(platform.machine())
    if sys.platform != "linux" or number is None:
        return
    wanted = _ATTRIBUTES.pack(_ATTRIBUTES.size, os.SCHED_OTHER, 0, now, 0, _LONGEST_SLICE_NS, 0, 0, 0, 0)
    ctypes.CDLL(None).syscall(number, 0, wanted, 0)  # refused by a seccomp filter, say: niceness has to do

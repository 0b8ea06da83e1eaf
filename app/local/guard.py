"""Runs a command that the kernel kills when its parent dies: `python guard.py PARENT_PID COMMAND...`

The supervisor starts every child through this file, so that nothing is left behind even when it is itself killed
with SIGKILL and can clean up nothing. It imports the standard library only and replaces itself with the command, so
the process id stays the child's. Away from Linux it only runs the command.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ties this process to its parent's life, then becomes the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        # It outlives `execvp`, but not a fork: what the command starts is not tied (the supervisor kills its group).
        # The signal comes when the thread ends that forked, so children have to be started from the main thread.
        if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            sys.exit(f"guard: prctl failed: {os.strerror(ctypes.get_errno())}")
        if os.getppid() != parent:  # it died before prctl: the signal would never come
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - the command is the supervisor's own, without a shell


if __name__ == "__main__":
    main()

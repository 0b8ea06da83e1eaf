"""Who stands back does so with all its threads and children, and keeps working where the kernel knows no slices."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

_ASK = """
import ctypes, platform, subprocess, struct, sys, threading
from pawl.processes.priority import stand_back

LAYOUT = struct.Struct("=IIQiIQQQII")

def told():
    found = ctypes.create_string_buffer(LAYOUT.size)
    number = {"x86_64": 315, "aarch64": 275}[platform.machine()]
    assert ctypes.CDLL(None).syscall(number, 0, found, LAYOUT.size, 0) == 0
    _, _, _, nice, _, runtime, *_ = LAYOUT.unpack(found.raw)
    print(nice, runtime, flush=True)

if len(sys.argv) == 1:
    stand_back(7)
    told()
    thread = threading.Thread(target=told)
    thread.start()
    thread.join()
    subprocess.run([sys.executable, __file__, "child"], check=True)
else:
    stand_back(15)
    told()
"""


def _kernel() -> tuple[int, int]:
    major, minor = platform.release().split(".")[:2]
    return int(major), int("".join(digit for digit in minor if digit.isdigit()))


def test_a_process_its_threads_and_its_children_stand_back(tmp_path_factory: pytest.TempPathFactory) -> None:
    if sys.platform != "linux" or platform.machine() not in ("x86_64", "aarch64"):
        pytest.skip("slices of a task are Linux's")
    script = tmp_path_factory.mktemp("priority") / "ask.py"
    script.write_text(_ASK, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)], env={"PYTHONPATH": "."}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = [[int(number) for number in line.split()] for line in done.stdout.splitlines()]
    own = min(os.nice(0) + 7, 19)
    assert [nice for nice, _ in lines] == [own, own, min(own + 15, 19)]
    if _kernel() < (6, 12):
        pytest.skip(f"Linux {platform.release()} knows no slices of one task: niceness alone was checked")
    assert {runtime for _, runtime in lines} == {100_000_000}

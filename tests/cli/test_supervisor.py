"""The supervisor on real, small processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from app import supervisor
from app.core.domain.errors import Unavailable
from app.supervisor import Supervisor, guarded
from tests.polling import has_ended

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def python(program: str) -> list[str]:
    return [sys.executable, "-c", program]


async def until(check: object, seconds: float = 20.0) -> None:
    """Polls a condition; fails when it does not come true."""
    assert callable(check)
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "this never came true"
        await asyncio.sleep(0.02)


def gone(pid: int) -> bool:
    """Whether a process ended (a zombie that its new parent has not reaped yet counts as ended)."""
    try:
        return has_ended(psutil.Process(pid))
    except psutil.NoSuchProcess:
        return True


async def test_a_killed_child_is_started_again(tmp_path: Path) -> None:
    told: list[str] = []
    group = Supervisor(tmp_path, told.append)
    child = group.start("app", lambda: python(SLEEPER), dict(os.environ))
    log = tmp_path / "app.log"
    await until(lambda: log.exists() and log.read_text() == "up\n")
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    await until(lambda: log.read_text() == "up\nup\n")
    second = child.pid
    assert second is not None
    assert second != first
    await group.stop(["app"], 5.0)
    assert gone(first)
    assert gone(second)
    assert told == ["app ended (killed by SIGKILL), starting it again"]


async def test_a_child_that_dies_again_and_again_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_BACKOFF_SECONDS", (0.0,) * 5)
    group = Supervisor(tmp_path, lambda _: None)
    group.start("worker", lambda: python("import sys; sys.exit('no encoder here')"), dict(os.environ))
    error = await asyncio.wait_for(group.failure(), 30.0)
    assert isinstance(error, Unavailable)
    assert "worker process ended 5 times" in str(error)
    assert "exit status 1" in str(error)
    assert "no encoder here" in str(error), "the last lines of its log say why"
    await group.stop(["worker"], 1.0)


async def test_a_child_that_ignores_term_and_its_own_child_are_killed(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(child.pid, flush=True); time.sleep(600)"
    )
    group = Supervisor(tmp_path, lambda _: None)
    child = group.start("worker", lambda: python(program), dict(os.environ))
    log = tmp_path / "worker.log"
    await until(lambda: log.exists() and log.read_text().endswith("\n"))
    pid, grandchild = child.pid, int(log.read_text())
    assert pid is not None
    await group.stop(["worker"], 0.2)
    await until(lambda: gone(pid) and gone(grandchild))


async def test_a_stop_that_is_hurried_does_not_wait(tmp_path: Path) -> None:
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)"
    )
    group = Supervisor(tmp_path, lambda _: None)
    child = group.start("app", lambda: python(program), dict(os.environ))
    await until(lambda: (tmp_path / "app.log").exists() and (tmp_path / "app.log").read_text() == "up\n")
    pid = child.pid
    assert pid is not None
    stop = asyncio.create_task(group.stop(["app"], 3600.0))
    group.hurry()
    await asyncio.wait_for(stop, 30.0)
    assert gone(pid)


async def test_logs_are_bounded_and_errors_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 10_000)
    told: list[str] = []
    program = (
        "import json, time\n"
        "print('x' * 300_000)\n"  # longer than any line should be
        "for n in range(2000): print(json.dumps({'level': 'info', 'event': 'learned', 'n': n}))\n"
        "print(json.dumps({'level': 'error', 'event': 'gate_failed', 'version': 7}), flush=True)\n"
        "time.sleep(600)"
    )
    group = Supervisor(tmp_path, told.append)
    group.start("worker", lambda: python(program), dict(os.environ))
    await until(lambda: told)
    await group.stop(["worker"], 1.0)
    assert told[0] == "worker: gate_failed version=7"
    sizes = {entry.name: entry.stat().st_size for entry in os.scandir(tmp_path)}
    assert set(sizes) == {"worker.log", "worker.log.1", "worker.log.2"}
    assert sum(sizes.values()) < 3 * 10_000 + supervisor.LINE_BYTES


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_guarded_command_ends_with_its_parent() -> None:
    program = (
        "import subprocess, sys, time\n"
        "from app.supervisor import guarded\n"
        "child = subprocess.Popen(guarded([sys.executable, '-c', 'import time; time.sleep(600)']))\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen(python(program), stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        # It is tied once it has become the command; a parent that dies before that is noticed by the guard itself.
        parent.kill()
        parent.wait()
        deadline = time.monotonic() + 20.0
        while not gone(child):
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_guard_whose_parent_is_gone_does_not_start_the_command(tmp_path: Path) -> None:
    command = guarded(["touch", str(tmp_path / "started")])
    command[command.index(str(os.getpid()))] = "1"  # not this process, which runs it
    assert subprocess.run(command, check=False).returncode == 1
    assert not (tmp_path / "started").exists()

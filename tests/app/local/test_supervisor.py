"""The supervisor on real, small processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from app.local import child_logs, supervisor
from app.local.supervisor import Supervisor, guarded
from pawl.backoff import Backoff
from pawl.domain.errors import Unavailable
from pawl.processes.parts import PARTS_FILE, Part, PartState, read_parts, write_parts
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


async def test_a_child_that_cannot_start_at_all_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "_PAUSES", Backoff(longest=0.0))
    group = Supervisor(tmp_path, lambda _: None)
    group.start("worker", lambda: python("import sys; sys.exit('no encoder here')"), dict(os.environ))
    error = await asyncio.wait_for(group.failure(), 30.0)
    assert isinstance(error, Unavailable)
    assert "worker process ended 5 times" in str(error)
    assert "exit status 1" in str(error)
    assert "no encoder here" in str(error), "the last lines of its log say why"
    await group.stop(["worker"], 1.0)


async def test_the_supervisor_never_takes_a_healthy_part_down_for_a_sick_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part that started once is started again for ever, with a growing pause; one that recovered is forgiven."""
    monkeypatch.setattr(supervisor, "_PAUSES", Backoff(first=0.001, longest=60.0, factor=1.2))
    monkeypatch.setattr(supervisor, "_FORGIVEN_SECONDS", 0.5)
    sick = tmp_path / "sick"
    program = f"import os, sys, time; os.path.exists({str(sick)!r}) and sys.exit(3); print('up', flush=True); "
    told: list[str] = []
    seen: list[Part] = []
    logs = tmp_path / "logs"
    group = Supervisor(logs, told.append, lambda parts: seen.extend(p for p in parts if p.name == "worker"))
    healthy = group.start("app", lambda: python(SLEEPER), dict(os.environ))
    worker = group.start("worker", lambda: python(program + "time.sleep(600)"), dict(os.environ))
    await until(lambda: (logs / "worker.log").exists() and "up" in (logs / "worker.log").read_text())
    group.note_started()
    failing = asyncio.create_task(group.failure())
    first = healthy.pid
    sick.touch()
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)
    await until(lambda: worker.part.failures > 8, 60.0)
    assert not failing.done()
    assert healthy.pid == first
    assert "exit status 3" in (worker.part.last_end or "")
    pauses = [(one.next_start - one.since).total_seconds() for one in seen if one.next_start is not None]
    assert len(pauses) >= 8
    assert pauses == sorted(pauses), "each pause is longer than the one before"
    assert pauses[-1] > pauses[0]
    sick.unlink()
    await until(lambda: worker.part.is_well, 60.0)
    assert told[-1] == "worker has recovered"
    assert worker.part.restarts >= 8
    failing.cancel()
    await group.stop(["app", "worker"], 5.0)


async def test_a_program_that_is_missing_for_a_while_is_started_when_it_is_back(tmp_path: Path) -> None:
    """As while an environment is replaced, or where there is no memory for a process."""
    told: list[str] = []
    group = Supervisor(tmp_path, told.append)
    calls: list[int] = []

    def command() -> list[str]:
        calls.append(1)
        if len(calls) < 3:
            raise OSError(12, "Cannot allocate memory")
        return python(SLEEPER)

    child = group.start("worker", command, dict(os.environ))
    await until(lambda: child.pid is not None)
    assert "could not be started: Cannot allocate memory" in told[0]
    await group.stop(["worker"], 5.0)


def test_the_pause_grows_to_a_minute() -> None:
    backoff = replace(supervisor._PAUSES)
    pauses = [backoff.next_pause() for _ in range(1, 60)]
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert pauses[-1] == 60.0
    assert sum(pauses[:20]) < 60.0, "twenty deaths within a minute still leave it time to work"


def test_what_a_dead_supervisor_wrote_is_not_believed(tmp_path: Path) -> None:
    part = Part("worker", PartState.WAITING, datetime.now(UTC), 3, 2, "exit status 1", datetime.now(UTC))
    write_parts(tmp_path, [part])
    assert read_parts(tmp_path) == [part]
    content = (tmp_path / PARTS_FILE).read_text()
    (tmp_path / PARTS_FILE).write_text(content.replace(f'"supervisor": {os.getpid()}', '"supervisor": 99999999'))
    assert read_parts(tmp_path) == []
    (tmp_path / PARTS_FILE).write_text("{")
    assert read_parts(tmp_path) == []


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
    monkeypatch.setattr(child_logs, "LOG_BYTES", 10_000)
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
        "from app.local.supervisor import guarded\n"
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

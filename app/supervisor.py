"""Keeps child processes alive: restarts with back-off, bounded log files, an orderly stop, no process left behind.

Each child is started through `app/guard.py` (the kernel kills it when the supervisor dies) in a session of its own, so
that Ctrl-C in a terminal reaches the supervisor alone and the children are stopped in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from logging.handlers import RotatingFileHandler
from pathlib import Path

from app.core.domain.errors import Unavailable

GUARD = Path(__file__).with_name("guard.py")
LOG_BYTES = 10 * 2**20
LOG_FILES = 3
LINE_BYTES = 2**16
_QUICK_SECONDS = 10.0
_QUICK_DEATHS = 5
_BACKOFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
_ERROR_LEVELS = frozenset({"error", "critical"})

Notice = Callable[[str], None]


def guarded(command: Sequence[str]) -> list[str]:
    """The command, started so that it does not outlive this process."""
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]


class Child:
    """One process that is started again when it ends, until `stop`."""

    def __init__(
        self,
        name: str,
        command: Callable[[], Sequence[str]],
        env: Mapping[str, str],
        logs: Path | None,
        notice: Notice,
        handles: Sequence[int] = (),
    ) -> None:
        self.name = name
        self._command = command
        self._env = dict(env)
        self._handles = tuple(handles)
        self._log_path = logs / f"{name}.log" if logs is not None else None
        self._log = _log_to(self._log_path)
        self._notice = notice
        self._tail: deque[str] = deque(maxlen=15)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    async def keep(self) -> None:
        """Runs the process again and again; returns after `stop`.

        Raises `Unavailable` when it ended five times in a row within ten seconds of its start.
        """
        quick_deaths = 0
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            began = loop.time()
            code = await self._run_once()
            if self._stopping.is_set():
                return
            quick_deaths = quick_deaths + 1 if loop.time() - began < _QUICK_SECONDS else 1
            if quick_deaths >= _QUICK_DEATHS:
                tail = "\n".join(self._tail)
                where = f"Its log is {self._log_path}; the" if self._log_path is not None else "The"
                raise Unavailable(
                    problem=f"the {self.name} process ended {quick_deaths} times in a row right after its start "
                    f"(last: {_ending(code)}). {where} last lines:\n{tail}"
                )
            self._notice(f"{self.name} ended ({_ending(code)}), starting it again")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), _BACKOFF_SECONDS[quick_deaths - 1])

    def terminate(self) -> None:
        """Asks the process to end; it will not be started again."""
        self._stopping.set()
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()

    def kill(self) -> None:
        """Ends the process and all that it started."""
        self._stopping.set()
        if self._process is not None:
            _kill_group(self._process.pid)

    async def _run_once(self) -> int:
        process = await asyncio.create_subprocess_exec(
            *guarded(self._command()),
            env=self._env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,  # its own group, so that a Ctrl-C is for us; our session: priorities hold only within one
            limit=LINE_BYTES,
            pass_fds=self._handles,
        )
        self._process = process
        if self._stopping.is_set():  # asked to end between the check and the start: it saw no signal
            self.terminate()
        pump = asyncio.create_task(self._pump(process))
        try:
            return await process.wait()
        finally:
            # What the process itself started is in its group; left alone it would keep the pipe and outlive us.
            _kill_group(process.pid)
            self._process = None
            await asyncio.wait([pump], timeout=1.0)
            pump.cancel()

    async def _pump(self, process: asyncio.subprocess.Process) -> None:
        """Copies the output into the log file, line by line; a line longer than the limit is cut into pieces."""
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        rest = b""
        while chunk := await process.stdout.read(LINE_BYTES):
            *lines, rest = (rest + chunk).split(b"\n")
            if len(rest) > LINE_BYTES:
                lines, rest = [*lines, rest], b""
            for line in lines:
                self._write(line.decode("utf-8", "replace").rstrip("\r"))
        if rest:
            self._write(rest.decode("utf-8", "replace"))

    def _write(self, line: str) -> None:
        self._log.emit(logging.makeLogRecord({"msg": line.replace("\0", "")}))
        self._tail.append(line)
        problem = _error_in(line)
        if problem is not None:
            self._notice(f"{self.name}: {problem}")

    def close(self) -> None:
        """Closes the log file."""
        self._log.close()


def _log_to(path: Path | None) -> logging.Handler:
    if path is None:
        return logging.StreamHandler(sys.stdout)
    return RotatingFileHandler(path, maxBytes=LOG_BYTES, backupCount=LOG_FILES - 1, encoding="utf-8")


class Supervisor:
    """A group of children that run together: when one cannot be kept alive, `failure` tells.

    `logs` is the folder their output goes to, a file each; without it, it goes to stdout.
    """

    def __init__(self, logs: Path | None, notice: Notice) -> None:
        if logs is not None:
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs = logs
        self._notice = notice
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._hurry = asyncio.Event()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    def start(
        self, name: str, command: Callable[[], Sequence[str]], env: Mapping[str, str], handles: Sequence[int] = ()
    ) -> Child:
        """Starts a child; `command` is called anew before every start. It inherits the open files in `handles`."""
        child = Child(name, command, env, self._logs, self._notice, handles)
        self._children[name] = child
        self._keepers[name] = keeper = asyncio.create_task(child.keep(), name=f"keep {name}")
        keeper.add_done_callback(self._note_failure)
        return child

    def _note_failure(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._failure = self._failure or error
            self._failed.set()

    async def failure(self) -> BaseException:
        """Waits until a child cannot be kept alive; returns what `Child.keep` raised."""
        await self._failed.wait()
        return self._failure or RuntimeError("a child failed")

    def hurry(self) -> None:
        """Makes a stop that is under way kill at once."""
        self._hurry.set()

    async def stop(self, names: Sequence[str], seconds: float) -> None:
        """TERM to the named children at once, KILL to those (and theirs) still there after `seconds`."""
        keepers = [self._keepers[name] for name in names if name in self._keepers]
        if not keepers:
            return
        for name in names:
            if name in self._children:
                self._children[name].terminate()
        hurried = asyncio.create_task(self._hurry.wait())
        ended = asyncio.create_task(asyncio.wait(keepers))
        await asyncio.wait([hurried, ended], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for name in names:
            if name in self._children:
                self._children[name].kill()
        await asyncio.wait(keepers)
        hurried.cancel()
        for name in names:
            if name in self._children:
                self._children.pop(name).close()


def _kill_group(pid: int) -> None:
    """SIGKILL to a process group; nothing happens where it is gone."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _ending(code: int) -> str:
    """`exit status 3` or `killed by SIGKILL`."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _error_in(line: str) -> str | None:
    """The message of a JSON log line of level error or worse."""
    if not line.startswith("{"):
        return None
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if not isinstance(record, dict) or record.get("level") not in _ERROR_LEVELS:
        return None
    details = {k: v for k, v in record.items() if k not in {"level", "event", "timestamp", "exception", "logger"}}
    told = " ".join(f"{key}={value}" for key, value in details.items())
    return f"{record.get('event', 'error')} {told}".strip()[:500]

"""Keeps child processes alive: restarts for ever with a growing pause, bounded log files, an orderly stop, no process
left behind. A sick part never takes a healthy one down: only one that cannot start at all, at the first start, is a
`failure`.

Each child is started through `app/local/guard.py` (the kernel kills it when the supervisor dies) in a process
group of its own, so that Ctrl-C in a terminal reaches the supervisor alone and the children are stopped in order.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from app.local.child_logs import error_in, log_to
from pawl.backoff import Backoff, pause_unless
from pawl.domain.errors import Unavailable
from pawl.processes.parts import Part, PartState

GUARD = Path(__file__).with_name("guard.py")
LINE_BYTES = 2**16
_STARTED_SECONDS = 10.0
"""A part that lived so long has started, if nobody said so before."""
_FORGIVEN_SECONDS = 30.0
"""A part that lived so long again has recovered: its next death is its first."""
_FIRST_STARTS = 5
_PAUSES = Backoff(first=0.2, longest=60.0, factor=1.2)
"""Twenty deaths in a row cost 40 s of pauses, and the thirty-second waits the full minute."""

Notice = Callable[[str], None]


def guarded(command: Sequence[str]) -> list[str]:
    """The command, started so that it does not outlive this process."""
    # Isolated and without site-packages: no module of the working folder or of PYTHONPATH stands in for the guard's.
    return [sys.executable, "-I", "-S", str(GUARD), str(os.getpid()), *command]


@dataclass(frozen=True, slots=True)
class Program:
    """What a child runs. `command` is called before every start; the child inherits the open files in `handles`."""

    name: str
    command: Callable[[], Sequence[str]]
    env: Mapping[str, str]
    handles: tuple[int, ...] = ()


class Child:
    """One process that is started again when it ends, until `stop`."""

    def __init__(self, program: Program, logs: Path | None, notice: Notice, changed: Callable[[], None]) -> None:
        self.name = program.name
        self._program = program
        self._changed = changed
        self._since = datetime.now(UTC)
        self._restarts = 0
        self._backoff = replace(_PAUSES)  # a copy, as it counts the failures of this child
        self._has_started = False
        self._last_end: str | None = None
        self._next_start: datetime | None = None
        self._log_path = logs / f"{self.name}.log" if logs is not None else None
        self._log = log_to(self._log_path)
        self._notice = notice
        self._tail: deque[str] = deque(maxlen=15)
        self._process: asyncio.subprocess.Process | None = None
        self._stopping = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None else None

    @property
    def part(self) -> Part:
        """How it is."""
        state = PartState.RUNNING if self._process is not None else PartState.WAITING
        return Part(
            self.name, state, self._since, self._restarts, self._backoff.failures, self._last_end, self._next_start
        )

    def note_started(self) -> None:
        """From now on it is started again for ever: it has shown that it can start."""
        self._has_started = True

    async def keep(self) -> None:
        """Runs the process again and again; returns after `stop`.

        Raises `Unavailable` when it could not be started at all: it ended right after each of its first starts.
        """
        while not self._stopping.is_set():
            ending = await self._live()
            if self._stopping.is_set():
                return
            if not self._has_started and self._backoff.failures >= _FIRST_STARTS:
                raise Unavailable(problem=self._told_failure(ending))
            pause = self._backoff.pause
            self._last_end, self._since = ending, datetime.now(UTC)
            self._next_start = self._since + timedelta(seconds=pause)
            again = (
                f" for the {self._backoff.failures}th time in a row" if self._backoff.failures > _FIRST_STARTS else ""
            )
            waiting = f" in {pause:.0f} s" if pause >= 1.0 else ""
            self._notice(f"{self.name} ended{again} ({ending}), starting it again{waiting}")
            self._changed()
            await pause_unless(self._stopping, pause)
            self._restarts += 1

    async def _live(self) -> str:
        """One life; how it ended."""
        loop = asyncio.get_running_loop()
        began, self._since, self._next_start = loop.time(), datetime.now(UTC), None
        forgiving = loop.call_later(_FORGIVEN_SECONDS, self._forgive)
        try:
            ending = _ending(await self._run_once())
        except OSError as error:  # no memory for a process, or its program is being replaced
            ending = f"could not be started: {error.strerror or error}"
        finally:
            forgiving.cancel()
        self._has_started = self._has_started or loop.time() - began >= _STARTED_SECONDS
        self._backoff.next_pause()  # after the timer: the end of a life that was forgiven counts as the first in a row
        return ending

    def _forgive(self) -> None:
        if self._backoff.failures:
            self._notice(f"{self.name} has recovered")
        self._backoff.reset()
        self._has_started = True
        self._changed()

    def _told_failure(self, ending: str) -> str:
        tail = "\n".join(self._tail)
        where = f"Its log is {self._log_path}; the" if self._log_path is not None else "The"
        return (
            f"the {self.name} process ended {self._backoff.failures} times in a row right after its start "
            f"(last: {ending}). {where} last lines:\n{tail}"
        )

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
            *guarded(self._program.command()),
            env=dict(self._program.env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            process_group=0,  # its own group, so that a Ctrl-C is for us; our session: priorities hold only within one
            limit=LINE_BYTES,
            pass_fds=self._program.handles,
        )
        self._process = process
        self._changed()
        if self._stopping.is_set():  # asked to end between the check and the start: it saw no signal
            self.terminate()
        pump = asyncio.create_task(self._pump(process))
        try:
            return await process.wait()
        finally:
            # What the process itself started is in its group; left alone it would keep the pipe and outlive us.
            _kill_group(process.pid)
            self._process = None
            # For the last lines; what has left the group may keep the pipe open for ever.
            await asyncio.wait([pump], timeout=1.0)
            pump.cancel()

    async def _pump(self, process: asyncio.subprocess.Process) -> None:
        """Copies the output into the log file, line by line; a line longer than the limit is cut into pieces."""
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        rest = b""
        # Not `readline`: it raises on a long line, and then nobody empties the pipe and the child stands still.
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
        problem = error_in(line)
        if problem is not None:
            self._notice(f"{self.name}: {problem}")

    def close(self) -> None:
        """Closes the log file."""
        self._log.close()


class Supervisor:
    """A group of children that run together: when one cannot be started at all, `failure` tells.

    `logs` is the folder their output goes to, a file each; without it, it goes to stdout. `changed` is called with all
    parts whenever one of them starts, ends or recovers.
    """

    def __init__(
        self, logs: Path | None, notice: Notice, changed: Callable[[list[Part]], None] = lambda _: None
    ) -> None:
        if logs is not None:
            logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._logs = logs
        self._notice = notice
        self._changed = changed
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._hurry = asyncio.Event()
        self._failed = asyncio.Event()
        self._failure: BaseException | None = None

    def start(
        self, name: str, command: Callable[[], Sequence[str]], env: Mapping[str, str], handles: Sequence[int] = ()
    ) -> Child:
        """Starts a child; `command` is called anew before every start. It inherits the open files in `handles`."""
        program = Program(name, command, env, tuple(handles))
        child = Child(program, self._logs, self._notice, self._note_change)
        self._children[name] = child
        self._keepers[name] = keeper = asyncio.create_task(child.keep(), name=f"keep {name}")
        keeper.add_done_callback(self._note_failure)
        return child

    def _note_failure(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (error := keeper.exception()) is not None:
            self._failure = self._failure or error
            self._failed.set()

    def note_started(self) -> None:
        """All parts have started: from now on there is no `failure`."""
        for child in self._children.values():
            child.note_started()

    def _note_change(self) -> None:
        self._changed([child.part for child in self._children.values()])

    async def failure(self) -> BaseException:
        """Waits until a child cannot be started at all; returns what `Child.keep` raised."""
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

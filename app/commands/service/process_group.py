"""`pawl serve`: the HTTP service alone, in one process or in several behind one socket."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from app.commands.console.terminal import CommandFailed, notes
from app.local.supervisor import Supervisor
from pawl.processes.children import module_command
from pawl.processes.threads import thread_count
from pawl.settings import Settings

_KILLED_AFTER = 3.0  # seconds beyond `drain_seconds`: what is buffered is written within 1.5


@dataclass(frozen=True, slots=True)
class Group:
    """A listening socket that `count` processes take requests from, and the folder where they leave their metrics."""

    socket: socket.socket
    folder: Path
    count: int

    @property
    def names(self) -> list[str]:
        """Of the processes."""
        return [f"app-{number}" for number in range(1, self.count + 1)]

    def start(self, supervisor: Supervisor, environment: Mapping[str, str], settings: Settings) -> None:
        """Starts the processes; each has its share of the cores unless the settings say how many threads."""
        # Else each of them would take as many threads as there are cores.
        threads = settings.threads or max(1, thread_count(0) // self.count)
        handle = self.socket.fileno()
        for number, name in enumerate(self.names, start=1):
            command = module_command("app.cli", "serve", "--socket", str(handle))
            command += ["--member", str(number), "--metrics", str(self.folder)]
            shared = {**environment, "PAWL_THREADS": str(threads)}
            supervisor.start(name, partial(list, command), shared, handles=[handle])


@contextmanager
def group(settings: Settings) -> Iterator[Group]:
    """Listens, and makes the folder, for the block. Raises `CommandFailed` where the port cannot be had."""
    try:
        # Opened here and inherited: while a child is started again the kernel goes on queueing connections, and none is
        # refused.
        listening = socket.create_server((settings.host, settings.port), family=_family(settings.host), backlog=2048)
    except OSError as error:
        raise CommandFailed(f"cannot listen on {settings.host} port {settings.port}: {error.strerror}") from error
    folder = Path(tempfile.mkdtemp(prefix="pawl-metrics-"))
    try:
        yield Group(listening, folder, settings.workers)
    finally:
        listening.close()
        shutil.rmtree(folder, ignore_errors=True)


def _family(host: str) -> socket.AddressFamily:
    return socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][0]


def serve_group(settings: Settings) -> None:
    """Runs `settings.workers` processes until SIGINT or SIGTERM; one that dies is started again.

    Raises `CommandFailed` where the port cannot be had, `Unavailable` where a process cannot be kept alive.
    """
    with group(settings) as members:
        asyncio.run(_supervise(settings, members))


async def _supervise(settings: Settings, members: Group) -> None:
    supervisor = Supervisor(None, lambda message: notes.print(message, markup=False, soft_wrap=True))
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopping, failing = asyncio.create_task(stop.wait()), asyncio.create_task(supervisor.failure())
    members.start(supervisor, os.environ, settings)
    try:
        await asyncio.wait([stopping, failing], return_when=asyncio.FIRST_COMPLETED)
        if not stopping.done():
            raise failing.result()
    finally:
        for task in (stopping, failing):
            task.cancel()
        await supervisor.stop(members.names, settings.drain_seconds + _KILLED_AFTER)

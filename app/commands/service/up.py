"""`pawl up`: everything on one machine under one supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import json
import os
import signal
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
from pydantic import SecretStr
from rich.status import Status

from app.commands.console.client import RUN_FILE, address
from app.commands.console.terminal import CommandFailed, notes, print_line
from app.commands.encoder.encoder import check_settings
from app.commands.home.learner import check_encoder, live_learner, require_worker
from app.commands.home.stores import HomeStores, announce, make_home, open_stores
from app.commands.service.demo import readable_demo
from app.commands.service.process_group import Group, group
from app.local.redis_server import GET_REDIS, SQL_ALONE, find_redis_server, redis_answers, redis_command
from app.local.supervisor import Supervisor
from pawl.domain.errors import StoreUnavailable
from pawl.domain.learner import EncoderState
from pawl.files import write_atomic
from pawl.ports import StreamUnavailable
from pawl.processes.children import module_command
from pawl.processes.parts import PARTS_FILE, Part, write_parts
from pawl.settings import Settings
from pawl.streams.rehearsal import rehearse

LOCK_FILE = "up.lock"
_REDIS_SECONDS = 20.0
# The app writes its buffers within that. With the default of `drain_seconds` (5) and Redis after it all is gone within
# ten seconds, Docker's default.
FLUSH_SECONDS = 1.5
STOP_REDIS_SECONDS = 1.5
_POLL_SECONDS = 0.2


def up(settings: Settings, *, demo: bool) -> None:
    """Runs until SIGINT or SIGTERM. Raises `CommandFailed` for what stands in the way of a start."""
    require_worker()
    home = make_home(settings)
    try:
        with _only_one(home):
            port = free_port(settings.host, settings.port)
            settings = settings.model_copy(update={"port": port})
            with group(settings) if settings.workers > 1 else contextlib.nullcontext() as members:
                asyncio.run(_Run(settings, members, demo=demo).run())
    except PermissionError as error:
        raise CommandFailed(f"cannot write to {error.filename or home}: {error.strerror}") from error


@contextlib.contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Holds the home's lock; the kernel lets go of it when the process dies, however that happens."""
    # "a+", not "w": opening must not empty the file of the one that runs, whose process id is told.
    with (home / LOCK_FILE).open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise CommandFailed(
                f"`pawl up` runs on {home} already (process {lock.read().strip() or 'unknown'})",
                "Stop that one first, or use another home (--home) and port (--port).",
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def free_port(host: str, port: int) -> int:
    """The port, if it can be listened on; for 0 a free one. Raises `CommandFailed`."""
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            # As the service does: without it a port whose connections were closed a moment ago looks taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(where)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise CommandFailed(
                f"port {port} on {host} is in use", "Stop what listens there, or choose another with --port."
            ) from error
        raise CommandFailed(f"cannot listen on {host} port {port}: {error.strerror}") from error


class _Run:
    """One run of the supervisor: start, wait until ready, keep alive, stop."""

    def __init__(self, settings: Settings, members: Group | None, *, demo: bool) -> None:
        self._settings = settings
        self._demo = demo
        self._members = members
        self._home = settings.home_path
        self._url = address(settings.host, settings.port)
        self._env = dict(os.environ) | {
            "PAWL_HOME": str(self._home),
            "PAWL_HOST": settings.host,
            "PAWL_PORT": str(settings.port),
            **({"PAWL_ENCODER": settings.encoder} if "encoder" in settings.model_fields_set else {}),
            "PYTHONUNBUFFERED": "1",  # else a child's last lines are lost with it when it is killed
        }
        self._status = Status("starting", console=notes)
        self._begun = datetime.now(UTC)

    async def run(self) -> None:
        """Returns after an orderly stop; raises what made it give up."""
        self._supervisor = Supervisor(self._home / "logs", self._tell, self._note_parts)
        stop = asyncio.Event()
        self._watch_signals(stop)
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(stop.wait())
        failing = asyncio.create_task(self._supervisor.failure())
        try:
            with self._status:
                await asyncio.wait([starting, stopping, failing], return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                print_line(await starting)  # or raises what went wrong
                self._tell(f"API documentation: {self._url}/docs   logs: {self._home / 'logs'}   Ctrl-C stops")
                await asyncio.wait([stopping, failing], return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done() and failing.done():
                raise failing.result()
        finally:
            # Also a start that is under way: else it would go on starting parts while they are stopped.
            for task in (starting, stopping, failing):
                task.cancel()
            await self._stop()

    def _watch_signals(self, stop: asyncio.Event) -> None:
        def asked() -> None:
            if stop.is_set():
                self._supervisor.hurry()  # a second Ctrl-C: nobody wants to wait any longer
            stop.set()

        # SIGHUP: the terminal was closed, and the children are to end in order then too.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            asyncio.get_running_loop().add_signal_handler(number, asked)

    async def _start(self) -> str:
        """Starts all parts in order and returns the line to print when they are ready."""
        async with open_stores(self._settings, migrate=True) as stores:
            # Before any part is started: a contradiction is told at once, and nothing has to be stopped again.
            await check_settings(self._settings, stores)
        await self._start_redis()
        settings = self._settings
        async with open_stores(settings) as stores:
            await self._add_demo(stores)
            if self._members is None:
                self._supervisor.start("app", lambda: module_command("app.cli", "serve"), self._env)
            else:
                self._members.start(self._supervisor, self._env, settings)
            self._supervisor.start("worker", lambda: module_command("worker"), self._env)
            self._write_run_file()
            number = await self._wait_until_ready(stores)
            await self._wait_for_learner(stores)
        self._supervisor.note_started()  # what dies from now on is started again, for ever
        return f"ready {self._url} version {number}" if number else f"ready {self._url} no version yet"

    async def _start_redis(self) -> None:
        settings = self._settings
        if settings.sql_alone:
            self._tell(f"no Redis (PAWL_REDIS_URL=none): {SQL_ALONE}.")
            return
        if settings.redis_url is not None:
            try:
                await rehearse(settings.stream_url, settings.server_seconds)
            except StreamUnavailable as error:
                self._tell(
                    f"{error}; corrections are learned by the sweep, a little later, until it can. `pawl doctor`"
                )
            return
        program = find_redis_server()
        if program is None:
            # For this process, and for its children: nobody is to look for the embedded server's socket.
            self._settings = settings.model_copy(update={"redis_url": SecretStr("none")})
            self._env["PAWL_REDIS_URL"] = "none"
            self._tell(f"no redis-server or valkey-server on this machine: {SQL_ALONE}. {GET_REDIS}")
            return
        self._status.update("starting Redis")
        self._supervisor.start("redis", lambda: redis_command(settings, program), self._env)
        deadline = asyncio.get_running_loop().time() + _REDIS_SECONDS
        while not await redis_answers(settings.stream_url):
            if asyncio.get_running_loop().time() > deadline:
                raise CommandFailed(
                    f"the embedded Redis did not start within {_REDIS_SECONDS:.0f} s",
                    f"See {self._home / 'logs' / 'redis.log'}.",
                )
            await asyncio.sleep(0.05)

    async def _add_demo(self, stores: HomeStores) -> None:
        """Queues the demo samples, all or none, where nothing was ever stored."""
        if not self._demo or await stores.has_samples():
            return
        receipts = await stores.samples.accept(await readable_demo(self._settings, stores))
        await announce(self._settings, [receipt.id for receipt in receipts])

    async def _wait_until_ready(self, stores: HomeStores) -> int | None:
        """Waits for the service; the number it answers with, or None where no version is to be expected."""
        live = await stores.ledger.live()
        queued = (await stores.samples.backlog()).length
        expected = live is not None or await stores.samples.makes_first_version(self._settings.bootstrap_samples)
        training = live is None and expected
        async with httpx.AsyncClient(base_url=self._url, timeout=5.0) as client:
            while True:
                await check_encoder(stores, self._begun)
                number = await self._served(client)
                waiting = (await stores.samples.backlog()).length if training else 0
                live = await stores.ledger.live() if training else live
                if training and live is None and not waiting:  # one transaction does both: no version will come
                    raise CommandFailed(
                        f"none of the {queued} texts that waited could be learned", f"See {self._home / 'logs'}."
                    )
                # Learned is not yet served: what is told as ready answers with the version that learned what waited.
                if number is not None and not waiting and (live is None or number >= live.number):
                    return number or None
                what = "waiting for the service"
                if waiting:
                    what = f"learning {queued} texts" + (f", {waiting} to go" if waiting < queued else "")
                self._status.update(what)
                await asyncio.sleep(_POLL_SECONDS)

    async def _wait_for_learner(self, stores: HomeStores) -> None:
        """Until it has shown that it can start, and with this encoder: its heartbeat, or another learner's that it
        stands by for.
        """
        self._status.update("waiting for the learner, which tries the encoder")
        while True:
            with contextlib.suppress(StoreUnavailable):
                usable = await check_encoder(stores, self._begun) is EncoderState.USABLE
                if usable and await live_learner(stores) is not None:
                    return
            await asyncio.sleep(_POLL_SECONDS)

    def _note_parts(self, parts: list[Part]) -> None:
        with contextlib.suppress(OSError):  # a full disk is no reason to stop
            write_parts(self._home, parts)

    @staticmethod
    async def _served(client: httpx.AsyncClient) -> int | None:
        """The version that answers, 0 where there is none yet; None while it is not ready."""
        try:
            answer = await client.get("/readyz")
            return int(answer.json().get("version") or 0) if answer.is_success else None
        except (httpx.HTTPError, ValueError):
            return None

    async def _stop(self) -> None:
        # First, so that no command finds the address of a service that is about to end.
        for name in (RUN_FILE, PARTS_FILE):
            (self._home / name).unlink(missing_ok=True)
        apps = ["app"] if self._members is None else self._members.names
        # Redis last: apps and learner still announce and acknowledge while they end.
        await self._supervisor.stop([*apps, "worker"], self._settings.drain_seconds + FLUSH_SECONDS)
        await self._supervisor.stop(["redis"], STOP_REDIS_SECONDS)

    def _write_run_file(self) -> None:
        """Where other commands find the service. Replaced in one step: a reader sees the old file or the new one."""
        content = {"url": self._url, "pid": os.getpid(), "started_at": datetime.now(UTC).isoformat()}
        write_atomic(self._home / RUN_FILE, json.dumps(content), durable=False)

    @staticmethod
    def _tell(message: str) -> None:
        with contextlib.suppress(OSError):  # the terminal is gone; the parts go on
            notes.print(message, markup=False, soft_wrap=True)

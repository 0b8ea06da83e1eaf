"""Real servers for the tests: the `redis-server` that Pawl itself would take, PostgreSQL from the pgserver wheel.

The wheel's binaries are found without importing the packages, which start things and warn on import.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
import pytest
import redis

from app.local.redis_server import find_redis_server

_START_SECONDS = 60.0
_STOP_SECONDS = 20.0
_UNPRIVILEGED = "nobody"  # PostgreSQL refuses to run as root


def wheel_folder(package: str) -> Path:
    """Where an installed package lies."""
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise RuntimeError(f"{package} is not installed: pip install -e '.[dev]'")
    return Path(spec.submodule_search_locations[0])


class Server:
    """A child process with a log in its folder; subclasses say how it starts and when it answers."""

    stop_signal = signal.SIGTERM

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "server.log"
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def answers(self) -> bool:
        raise NotImplementedError

    def start(self, user: str | None = None) -> None:
        """Starts it on the data it left, and waits until it answers."""
        assert self.process is None, "started already"
        group = None if user is None else pwd.getpwnam(user).pw_gid
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=user,
                group=group,
                start_new_session=True,  # a Ctrl-C in the terminal is for the tests, which stop it in order
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.command()[0]} did not start:\n{self.log.read_text()[-4000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """In order: what was accepted is on disk."""
        self._end(self.stop_signal)

    def kill(self) -> None:
        """As the OOM killer would."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """It and all it started stand still (SIGSTOP): connections stay open, and nothing is answered any more."""
        assert self.process is not None, "not started"
        main = psutil.Process(self.process.pid)
        main.suspend()  # first, so that it starts no more
        for child in main.children(recursive=True):
            child.suspend()

    def resume(self) -> None:
        """Goes on after `pause`."""
        assert self.process is not None, "not started"
        main = psutil.Process(self.process.pid)
        for process in (*main.children(recursive=True), main):
            process.resume()

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


class RedisServer(Server):
    """A Redis server on a unix socket in its folder, with an append-only file; `stop` and `start` keep the data."""

    def __init__(self, folder: Path, options: Mapping[str, str] | None = None) -> None:
        super().__init__(folder)
        self.options = {"port": "0", **(options or {})}

    @property
    def socket(self) -> Path:
        return self.folder / "redis.sock"

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def pid(self) -> int:
        assert self.process is not None, "not started"
        return self.process.pid

    def command(self) -> list[str]:
        binary = find_redis_server()
        if binary is None:
            pytest.skip("no redis-server on this machine: pip install -e '.[embedded]'")
        options = {
            **self.options,
            "unixsocket": str(self.socket),
            "dir": str(self.folder),
            "appendonly": "yes",
            "save": "",
        }
        return [str(binary), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def answers(self) -> bool:
        with redis.Redis(unix_socket_path=str(self.socket), socket_timeout=5) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False


class PostgresServer(Server):
    """A PostgreSQL server on a unix socket in its folder, without fsync; runs as `nobody` where the tests are root."""

    stop_signal = signal.SIGINT  # fast shutdown: does not wait for clients to leave

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.user = _UNPRIVILEGED if os.geteuid() == 0 else None
        self.binaries = wheel_folder("pgserver") / "pginstall"

    def start(self, user: str | None = None) -> None:
        """Makes the cluster where there is none, then starts on it."""
        if not (self.folder / "data").exists():
            self._initialise()
        super().start(user or self.user)

    def _initialise(self) -> None:
        if self.user is not None:
            owner = pwd.getpwnam(self.user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
            if not _reachable_for_all(self.binaries):  # e.g. a virtual environment under /root
                self.binaries = Path(shutil.copytree(self.binaries, self.folder / "pginstall"))
        options = ["--auth=trust", "--encoding=utf8", "--no-locale", "--no-sync", "-U", "postgres", "-D", "data"]
        done = subprocess.run(
            [str(self.binaries / "bin" / "initdb"), *options],
            cwd=self.folder,
            capture_output=True,
            text=True,
            user=self.user,
            group=None if self.user is None else pwd.getpwnam(self.user).pw_gid,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def kill(self) -> None:
        """The backends, too: the next start must not meet one that has not noticed yet."""
        if self.process is not None:
            backends = psutil.Process(self.process.pid).children(recursive=True)
            super().kill()
            for backend in backends:
                with contextlib.suppress(psutil.NoSuchProcess):
                    backend.kill()
            psutil.wait_procs(backends, _STOP_SECONDS)

    def command(self) -> list[str]:
        options = ["-D", "data", "-k", str(self.folder), "-c", "listen_addresses=", "-c", "fsync=off"]
        return [str(self.binaries / "bin" / "postgres"), *options, "-c", "max_connections=200"]

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def execute(self, statement: str, database: str = "postgres") -> None:
        """One statement as the superuser, outside of a transaction."""
        with psycopg.connect(f"host={self.folder} user=postgres dbname={database}", autocommit=True) as connection:
            connection.execute(statement.encode())

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def create_database(self) -> str:
        """Name of a new, empty database."""
        name = f"pawl_{uuid.uuid4().hex[:12]}"
        self.execute(f"CREATE DATABASE {name}")
        return name

    def drop_database(self, name: str) -> None:
        self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _reachable_for_all(folder: Path) -> bool:
    return all(path.stat().st_mode & 0o005 == 0o005 for path in (folder, *folder.parents))


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder whose path leaves room for a unix socket's name (107 bytes), and that other users may enter."""
    folder = Path(tempfile.mkdtemp(prefix="pawl-test-", dir="/tmp"))  # pytest's own are too long
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def redis_server(short_folder: Path) -> Iterator[RedisServer]:
    """A running Redis for the session. A test that stops servers makes its own `RedisServer`."""
    folder = short_folder / "redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """URL of an empty Redis."""
    with redis.Redis(unix_socket_path=str(redis_server.socket)) as client:
        client.flushall()
    return redis_server.url


@pytest.fixture(scope="session")
def postgres_server(short_folder: Path) -> Iterator[PostgresServer]:
    """A running PostgreSQL for the session; fails where it cannot be started."""
    folder = short_folder / "postgres"
    folder.mkdir()
    server = PostgresServer(folder)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of a new, empty database."""
    name = postgres_server.create_database()
    yield postgres_server.url(name)
    postgres_server.drop_database(name)

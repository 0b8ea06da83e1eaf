"""Pawl's own processes for the tests: `pawl serve` and `python -m worker`, as a user starts them.

Every process is tied to the test process by the kernel (`app/local/guard.py`), writes a log into the home, and is
killed when the test ends.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.local.supervisor import guarded
from pawl import load
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.classifier import Classifier
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.samples import NewSample, Sample
from pawl.settings import PREFIX, Settings
from tests.intents import labelled
from tests.polling import eventually
from tests.shared import shared
from tests.tiny_encoder import write_tiny_encoder

PATIENCE = 120.0
"""Seconds for anything to happen: the machine may be busy, and nothing is measured here."""
TRAINED_SAMPLES = 200
"""Samples in version 1 of a trained installation: `labelled(200)`."""
LENIENT = {"gate_max_drop": 1.0, "gate_max_class_drop": 1.0, "gate_max_ece_rise": 1.0, "quarantine_window": 0}
"""Settings with which only what is broken is refused and nothing is screened; for tests of something else."""
_QUICK = {
    "backend": "onnxruntime",
    "random_features": 64,
    "lexical_size": 256,
    "threads": 1,
    "poll_seconds": 0.1,
    "sweep_seconds": 0.5,
    "reclaim_seconds": 1.0,
    "lease_seconds": 1.0,
    "keep_versions": 2000,
    "server_seconds": 30.0,  # a busy machine is no fault
}
_LOG_TAIL = 3000


@dataclass(frozen=True, slots=True)
class Stores:
    """The truth, to look at from the test."""

    samples: SqlSampleStore
    ledger: SqlVersionLedger

    async def learned(self, task: str = "default") -> list[Sample]:
        """Every learned sample of a task, by `seq`."""
        return await self.samples.learned(task, limit=1_000_000)


class Process:
    """One real process and its log."""

    def __init__(self, command: list[str], environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as file:
            self._popen = subprocess.Popen(
                guarded(command),
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen.poll() is None

    def send(self, number: signal.Signals) -> None:
        self._popen.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to it and to all that it started, as in a power cut."""
        if self.is_running:
            os.killpg(self.pid, signal.SIGKILL)
        self._popen.wait()

    def stop(self, seconds: float = 60.0) -> int:
        """SIGTERM; returns the exit status."""
        self._popen.terminate()
        return self._popen.wait(seconds)

    def wait(self, seconds: float = PATIENCE) -> int:
        """The exit status once it has ended by itself."""
        return self._popen.wait(seconds)

    def output(self) -> str:
        return self.log.read_text(errors="replace")


class Installation:
    """One home, its settings, and the processes that run on it."""

    def __init__(self, home: Path, **settings: Any) -> None:
        self.home = home
        values = {name: str(value) for name, value in {**_QUICK, "home": home, "port": free_port(), **settings}.items()}
        self.settings = Settings(**values)  # type: ignore[arg-type]  # parsed as the environment is
        clean = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        given = {PREFIX + name.upper(): value for name, value in values.items()}
        self.environment = clean | given | {"PYTHONUNBUFFERED": "1", "OMP_NUM_THREADS": "1"}
        self.processes: list[Process] = []
        self.artefacts = FolderArtefactStore(self.settings.artefacts_path)
        home.mkdir(parents=True, exist_ok=True)

    def start(self, name: str, *command: str, **settings: Any) -> Process:
        """Starts a Python module with arguments; `settings` are for this process alone."""
        log = self.home / f"{name}-{len(self.processes)}.log"
        environment = self.environment | {PREFIX + key.upper(): str(value) for key, value in settings.items()}
        process = Process([sys.executable, "-m", *command], environment, log)
        self.processes.append(process)
        return process

    def start_app(self, **settings: Any) -> Process:
        return self.start("app", "app.cli", "serve", **settings)

    def start_worker(self, *arguments: str, **settings: Any) -> Process:
        return self.start("worker", "worker", *arguments, **settings)

    def end(self) -> None:
        """Kills what still runs; the last words of all go to the test's output, for the case that it failed."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            print(f"--- {process.log.name}\n{process.output()[-_LOG_TAIL:]}")  # noqa: T201 - pytest captures it

    def offline(self, number: int) -> Classifier:
        """Version `number` loaded from its folder, without the service."""
        return load(self.artefacts.path(number), threads=1)

    @asynccontextmanager
    async def client(self, port: int | None = None) -> AsyncIterator[httpx.AsyncClient]:
        """A client of the app, once it is alive."""
        url = f"http://{self.settings.host}:{port or self.settings.port}"
        async with httpx.AsyncClient(base_url=url, timeout=60.0) as client:
            await eventually(lambda: answers(client, "/livez"), PATIENCE, every=0.05)
            yield client

    @asynccontextmanager
    async def stores(self) -> AsyncIterator[Stores]:
        """The database, with its schema brought up to date."""
        engine = connect(self.settings.sql_url)
        try:
            await upgrade(engine)
            samples = SqlSampleStore(engine, heldout_fraction=self.settings.heldout_fraction)
            yield Stores(samples, SqlVersionLedger(engine))
        finally:
            await engine.dispose()


def free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def answers(client: httpx.AsyncClient, path: str) -> bool:
    """Whether a GET succeeds."""
    try:
        return (await client.get(path)).is_success
    except httpx.TransportError:
        return False


async def until_ready(client: httpx.AsyncClient) -> int:
    """Waits until a version serves; its number."""

    async def version() -> int:
        answer = await client.get("/readyz")
        return int(answer.json()["version"] or 0) if answer.is_success else 0

    return int(await eventually(version, PATIENCE, every=0.05))


async def until_settled(client: httpx.AsyncClient, sample_id: str) -> dict[str, Any]:
    """Waits until a piece of feedback is not queued any more; what the service says of it."""
    found: dict[str, Any] = {}

    async def settled() -> bool:
        answer = await client.get(f"/v1/feedback/{sample_id}")
        found.update(answer.json())
        return answer.is_success and found["state"] != "queued"

    await eventually(settled, PATIENCE, every=0.02)
    return found


class Installer:
    """Makes installations on the tiny encoder under a folder."""

    def __init__(self, folder: Path, trained: Installation) -> None:
        self._folder = folder
        self._trained = trained
        self.made: list[Installation] = []

    def empty(self, **settings: Any) -> Installation:
        """Nothing stored. The encoder is exported already, which saves every test seconds."""
        made = self._make(settings)
        shutil.copytree(self._trained.home / "encoders", made.home / "encoders")
        return made

    def trained(self, **settings: Any) -> Installation:
        """SQLite with version 1, which learned `labelled(TRAINED_SAMPLES)`."""
        made = self._make(settings)
        # cp -a keeps hard links among the files and makes none to the original, which stays as it is
        subprocess.run(["cp", "-a", f"{self._trained.home}/.", str(made.home)], check=True)
        return made

    def _make(self, settings: dict[str, Any]) -> Installation:
        home = self._folder / f"home-{len(self.made)}"
        self.made.append(Installation(home, **{"encoder": self._trained.settings.encoder, **settings}))
        return self.made[-1]


@contextmanager
def installing(folder: Path, trained: Installation) -> Iterator[Installer]:
    """An installer whose installations' processes end with the block."""
    installer = Installer(folder, trained)
    try:
        yield installer
    finally:
        for installation in installer.made:
            installation.end()


@pytest.fixture(scope="session")
def trained_installation() -> Installation:
    """A home with version 1, made by a real `python -m worker --drain`; only to be copied."""
    folder = shared("trained", _train)
    return Installation(folder / "home", encoder=folder / "encoder")


def _train(folder: Path) -> None:
    installation = Installation(folder / "home", encoder=write_tiny_encoder(folder / "encoder"))

    async def fill() -> None:
        async with installation.stores() as stores:
            await stores.samples.accept([NewSample(text, label) for text, label in labelled(TRAINED_SAMPLES)])

    asyncio.run(fill())
    drain = installation.start_worker("--drain")
    assert drain.wait() == 0, drain.output()
    drain.log.unlink()


@pytest.fixture
def install(tmp_path: Path, trained_installation: Installation) -> Iterator[Installer]:
    """Makes installations; all their processes end with the test."""
    with installing(tmp_path, trained_installation) as installer:
        yield installer

"""The database and the stream, opened for one command and closed after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncEngine

from app.commands.console.terminal import CommandFailed
from pawl.artefacts import FolderArtefactStore
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.ports import SampleStore, StreamUnavailable, VersionLedger
from pawl.settings import Settings
from pawl.streams.redis_stream import RedisFeedbackStream


@dataclass(frozen=True, slots=True)
class HomeStores:
    """The stores of a home that commands use: those in SQL, on one engine, and the folders of its versions."""

    engine: AsyncEngine
    samples: SampleStore
    ledger: VersionLedger
    artefacts: FolderArtefactStore

    async def has_samples(self) -> bool:
        """Tells whether anything was ever learned, or waits to be learned."""
        return await self.ledger.live() is not None or bool(await self.samples.tasks())


def make_home(settings: Settings) -> Path:
    """The home, which is made where it is missing. Raises `CommandFailed`."""
    home = settings.home_path
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise CommandFailed(f"cannot make the folder {home}: {error.strerror}", "Set PAWL_HOME or --home.") from error
    return home


@asynccontextmanager
async def open_stores(settings: Settings, *, migrate: bool = False) -> AsyncIterator[HomeStores]:
    """The stores; with `migrate` the home and the schema are made or brought up to date first."""
    if migrate:
        make_home(settings)
    # The learner's limit (30 s), not that of a request: an import is one transaction of all its rows (ADR 0026).
    engine = connect(settings.sql_url, settings.learner_server_seconds)
    try:
        if migrate:
            await upgrade(engine)
        yield HomeStores(
            engine=engine,
            samples=SqlSampleStore.of(engine, settings),
            ledger=SqlVersionLedger(engine),
            artefacts=FolderArtefactStore(settings.artefacts_path),
        )
    finally:
        await engine.dispose()


async def migrate(settings: Settings) -> None:
    """Brings home and schema up to date."""
    async with open_stores(settings, migrate=True):
        pass


async def announce(settings: Settings, sample_ids: Sequence[str]) -> None:
    """Tells a running learner about new samples. Without Redis its sweep finds them in SQL, a little later."""
    if settings.sql_alone:
        return
    stream = RedisFeedbackStream(
        settings.stream_url, max_entries=settings.stream_entries, timeout=settings.server_seconds
    )
    try:
        with suppress(StreamUnavailable):
            await stream.announce(sample_ids)
    finally:
        await stream.close()

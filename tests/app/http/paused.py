"""An app over a real PostgreSQL and a real Redis that a test may stop, with a version that serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from app.serving.service import Service
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.versions import SqlVersionLedger
from pawl.domain.versions import LedgerChange
from pawl.settings import Settings
from tests.app.world import World
from tests.polling import eventually
from tests.servers import PostgresServer, RedisServer


@dataclass(slots=True)
class Outside:
    """The servers."""

    postgres: PostgresServer
    redis: RedisServer


@contextmanager
def outside(folder: Path) -> Iterator[Outside]:
    """Servers of a test's own."""
    folder.mkdir()
    folder.chmod(0o755)
    servers = Outside(PostgresServer(folder / "postgres"), RedisServer(folder / "redis"))
    for server in (servers.postgres, servers.redis):
        server.folder.mkdir()
    try:
        servers.postgres.start()
        servers.redis.start()
        yield servers
    finally:
        servers.redis.kill()
        servers.postgres.kill()


def settings_for(home: Path, servers: Outside, **more: Any) -> Settings:
    """Of an app on a new database of these servers."""
    database = servers.postgres.url(servers.postgres.create_database())
    return Settings(
        home=home, database_url=SecretStr(database), redis_url=SecretStr(servers.redis.url), poll_seconds=0.05, **more
    )


@asynccontextmanager
async def serving(settings: Settings) -> AsyncIterator[tuple[httpx.AsyncClient, Service]]:
    """A client of an app that has loaded version 1, and the app's service."""
    await _put_live(settings)
    app: FastAPI = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://pawl", timeout=120) as client,
    ):
        service: Service = app.state.service
        await eventually(lambda: service.engine.number == 1)
        yield client, service


async def _put_live(settings: Settings) -> None:
    engine = connect(settings.sql_url)
    try:
        await upgrade(engine)
        await SqlVersionLedger(engine).promote(World(settings.home).write_version(1), LedgerChange())
    finally:
        await engine.dispose()

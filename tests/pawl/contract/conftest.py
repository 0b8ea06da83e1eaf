"""Each contract test runs once for each backend."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pawl.db.tables import metadata
from pawl.streams.memory import MemoryFeedbackStream
from pawl.streams.redis_stream import RedisFeedbackStream
from tests.pawl.contract.backends import Stores, memory_stores, migrate, sql_stores, sqlite_url
from tests.servers import PostgresServer, RedisServer

Stream = MemoryFeedbackStream | RedisFeedbackStream


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty SQLite file, to be copied."""
    path = tmp_path_factory.mktemp("template") / "pawl.db"
    migrate(sqlite_url(path))
    return path


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> str:
    """Name of a migrated database, to be emptied before each test (a new one takes far longer)."""
    name = postgres_server.create_database()
    migrate(postgres_server.url(name))
    return name


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stores]:
    if request.param == "memory":
        yield memory_stores()
    elif request.param == "sqlite":
        path = Path(shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path))
        async with sql_stores(sqlite_url(path)) as stores:
            yield stores
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name: str = request.getfixturevalue("postgres_database")
        tables = ", ".join(metadata.tables)
        server.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE", name)
        async with sql_stores(server.url(name)) as stores:
            yield stores


@pytest.fixture(params=["memory", "redis"])
async def stream(request: pytest.FixtureRequest) -> AsyncIterator[Stream]:
    if request.param == "memory":
        memory = MemoryFeedbackStream(max_entries=1000)
        yield memory
        await memory.close()
        return
    server: RedisServer = request.getfixturevalue("redis_server")
    stream = RedisFeedbackStream(request.getfixturevalue("redis_url"), max_entries=1000)
    info = await stream._client.info("server")
    assert info["process_id"] == server.pid
    yield stream
    await stream.close()

"""Each contract test runs once for each backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from pawl.db.tables import metadata
from pawl.streams.redis_stream import RedisFeedbackStream
from tests.databases import migrate, new_database, sqlite_url
from tests.pawl.contract.backends import OpenStores, sql_stores
from tests.servers import PostgresServer, RedisServer


@pytest.fixture(scope="session")
def postgres_database(postgres_server: PostgresServer) -> str:
    """Name of a migrated database, to be emptied before each test (a new one takes far longer)."""
    name = postgres_server.create_database()
    migrate(postgres_server.url(name))
    return name


@pytest.fixture(params=["sqlite", "postgresql"])
async def stores(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OpenStores]:
    if request.param == "sqlite":
        async with sql_stores(sqlite_url(new_database(tmp_path))) as stores:
            yield stores
    else:
        server: PostgresServer = request.getfixturevalue("postgres_server")
        name: str = request.getfixturevalue("postgres_database")
        tables = ", ".join(metadata.tables)
        server.execute(f"TRUNCATE {tables} RESTART IDENTITY CASCADE", name)
        async with sql_stores(server.url(name)) as stores:
            yield stores


@pytest.fixture
async def stream(redis_server: RedisServer, redis_url: str) -> AsyncIterator[RedisFeedbackStream]:
    stream = RedisFeedbackStream(redis_url, max_entries=1000)
    info = await stream._client.info("server")
    assert info["process_id"] == redis_server.pid
    yield stream
    await stream.close()

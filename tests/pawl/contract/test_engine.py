"""Connections: what is refused, what is hidden, and what an unreachable database looks like."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from pawl.db.engine import connect, redact_url, writing
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import SettingInvalid, StoreUnavailable
from pawl.domain.samples import NewSample
from tests.databases import migrate, new_database, sqlite_url
from tests.pawl.contract.backends import OpenStores, sql_stores
from tests.servers import PostgresServer


@pytest.fixture
def own_postgres(short_folder: Path) -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    folder = short_folder / "stopped-postgres"
    folder.mkdir()
    server = PostgresServer(folder)
    server.start()
    yield server
    server.kill()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql+psycopg://me:secret@db/pawl", "postgresql+psycopg://me:***@db/pawl"),
        (
            "postgresql://db/pawl?password=secret&sslmode=require",
            "postgresql://db/pawl?password=%2A%2A%2A&sslmode=require",
        ),
        ("redis://:secret@cache:6379/0", "redis://:***@cache:6379/0"),
        ("sqlite:////data/pawl.db", "sqlite:////data/pawl.db"),
        ("secret with spaces", "(not a URL)"),
    ],
)
def test_a_password_is_not_shown(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize("url", ["mysql://me:secret@db/pawl", "secret", "", "postgresql+pg8000://me:secret@db/pawl"])
def test_a_url_that_cannot_be_used_is_named_without_its_password(url: str) -> None:
    with pytest.raises(SettingInvalid, match="PAWL_DATABASE_URL") as caught:
        connect(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "driver"),
    [
        ("sqlite:////x.db", "aiosqlite"),
        ("sqlite+aiosqlite:////x.db", "aiosqlite"),
        ("postgres://db/pawl", "psycopg"),
        ("postgresql://db/pawl", "psycopg"),
    ],
)
def test_the_driver_may_be_left_out(url: str, driver: str) -> None:
    assert connect(url).dialect.driver == driver


async def test_a_missing_folder_and_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "no.db").write_bytes(b"not a database, but long enough to have a header" * 100)
    for path in (tmp_path / "missing" / "pawl.db", tmp_path / "no.db"):
        engine = connect(sqlite_url(path))
        for call in (SqlVersionLedger(engine).ping(), SqlSampleStore(engine).accept([NewSample("text", "a")])):
            with pytest.raises(StoreUnavailable, match="database"):
                await call
        await engine.dispose()


async def test_a_locked_database_is_unavailable_and_then_available_again(tmp_path: Path) -> None:
    path = new_database(tmp_path)
    async with sql_stores(sqlite_url(path), answer_seconds=0.05) as stores:
        other = connect(sqlite_url(path))
        async with writing(other) as connection:
            await connection.execute(text("UPDATE events SET type = type"))
            with pytest.raises(StoreUnavailable, match="locked"):
                await stores.samples.accept([NewSample("text", "a")])
            assert await stores.samples.queued(10) == []
        await other.dispose()
        assert (await stores.samples.accept([NewSample("text", "a")]))[0].is_new


async def test_an_outage_of_postgresql_ends_by_itself(own_postgres: PostgresServer) -> None:
    url = own_postgres.url(own_postgres.create_database())
    migrate(url)
    async with sql_stores(url) as stores:
        [receipt] = await stores.samples.accept([NewSample("text", "a")])
        own_postgres.kill()
        for call in (
            stores.ledger.ping(),
            stores.ledger.live(),
            stores.samples.get(receipt.id),
            stores.samples.accept([NewSample("another", "a")]),
            stores.predictions.get_many(["pr_1"]),
        ):
            with pytest.raises(StoreUnavailable):
                await call
        own_postgres.start()
        await stores.ledger.ping()
        assert (await stores.samples.get(receipt.id)).text == "text"


async def test_two_engines_on_one_database_write_at_once(stores: OpenStores) -> None:
    """As app and worker do: each has its own pool, and nothing in memory keeps them apart."""
    async with sql_stores(stores.engine.url.render_as_string(hide_password=False)) as others:
        both = (stores.samples, others.samples)
        items = [[NewSample(f"text {n % 5}", "a"), NewSample(f"own {n}", "a")] for n in range(20)]
        answers = await asyncio.gather(*(both[n % 2].accept(one) for n, one in enumerate(items)))
    assert len({shared.id for shared, _ in answers}) == 5
    assert await stores.count("samples") == 25


async def test_calls_cancelled_at_any_moment_leave_a_store_that_works(stores: OpenStores) -> None:
    for steps in range(60):
        call = asyncio.create_task(stores.samples.accept([NewSample(f"text {steps}", "a")]))
        for _ in range(steps):
            await asyncio.sleep(0)
        call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await call
    receipts = await stores.samples.accept([NewSample(f"text {steps}", "a") for steps in range(60)])
    assert len({receipt.id for receipt in receipts}) == 60
    assert await stores.count("samples") == 60
    gc.collect()  # a forgotten connection warns when it is collected, and a warning is an error

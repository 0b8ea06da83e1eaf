"""The migrations make exactly the tables of the code, on both databases, from anywhere, and can be taken back."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, inspect, text
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import connect, writing
from pawl.db.migrate import alembic_config, check_current, upgrade
from pawl.db.tables import metadata
from pawl.domain.errors import StoreUnavailable


@pytest.fixture(params=["sqlite", "postgresql"])
async def engine(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An empty database."""
    sqlite = request.param == "sqlite"
    url = f"sqlite+aiosqlite:///{tmp_path / 'pawl.db'}" if sqlite else request.getfixturevalue("postgres_url")
    engine = connect(url)
    assert engine.dialect.name == request.param
    yield engine
    await engine.dispose()


async def table_names(engine: AsyncEngine) -> set[str]:
    async with engine.connect() as connection:
        return set(await connection.run_sync(lambda sync: inspect(sync).get_table_names()))


async def set_revision(engine: AsyncEngine, revision: str) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})


async def test_an_upgrade_from_empty_makes_the_tables_of_the_code(engine: AsyncEngine) -> None:
    await upgrade(engine)
    assert await table_names(engine) == {*metadata.tables, "alembic_version"}
    await check_current(engine)
    await upgrade(engine)


async def test_no_difference_is_left_between_migrations_and_tables(engine: AsyncEngine) -> None:
    """What `alembic check` does, and the conditions of partial indexes, which it does not compare."""
    await upgrade(engine)

    def differences(connection: Connection) -> list[object]:
        return list(compare_metadata(MigrationContext.configure(connection), metadata))

    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    migrated = await index_definitions(engine)
    async with writing(engine) as connection:
        await connection.run_sync(metadata.drop_all)
        await connection.run_sync(metadata.create_all)
    assert await index_definitions(engine) == migrated
    assert any("superseded" in definition for definition in migrated)


async def index_definitions(engine: AsyncEngine) -> set[str]:
    query = "SELECT sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    if engine.dialect.name == "postgresql":
        query = "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename <> 'alembic_version'"
    async with engine.connect() as connection:
        return set(await connection.scalars(text(query)))


async def test_a_downgrade_leaves_nothing(engine: AsyncEngine) -> None:
    await upgrade(engine)
    async with writing(engine) as connection:
        await connection.run_sync(lambda sync: command.downgrade(alembic_config(sync), "base"))
    assert await table_names(engine) == {"alembic_version"}
    await upgrade(engine)
    await check_current(engine)


async def test_a_failed_upgrade_leaves_nothing_half_done(engine: AsyncEngine) -> None:
    async with writing(engine) as connection:
        await connection.execute(text("CREATE TABLE versions (number INTEGER)"))
    with pytest.raises(Exception, match="already exists"):
        await upgrade(engine)
    assert await table_names(engine) == {"versions"}


async def test_processes_that_migrate_at_once_wait_for_each_other(engine: AsyncEngine, tmp_path: Path) -> None:
    """From another working directory, so that the scripts must be found beside the installed package."""
    program = (
        "import asyncio, sys\n"
        "from pawl.db.engine import connect\n"
        "from pawl.db.migrate import check_current, upgrade\n"
        "async def main():\n"
        "    engine = connect(sys.argv[1])\n"
        "    await upgrade(engine)\n"
        "    await check_current(engine)\n"
        "    await engine.dispose()\n"
        "asyncio.run(main())\n"
    )
    url = engine.url.render_as_string(hide_password=False)
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            url,
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
            stderr=asyncio.subprocess.PIPE,
        )
        for _ in range(2)
    ]
    errors = [(await process.communicate())[1].decode() for process in processes]
    assert [process.returncode for process in processes] == [0, 0], errors
    await check_current(engine)


async def test_a_schema_that_is_missing_older_or_newer_is_told_with_what_to_do(
    engine: AsyncEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(StoreUnavailable, match=r"no Pawl tables yet.*pawl up"):
        await check_current(engine)
    await upgrade(engine)
    await set_revision(engine, "9999")
    for call in (check_current, upgrade):
        with pytest.raises(StoreUnavailable, match=r"9999 is unknown.*a newer Pawl made it\. Install that"):
            await call(engine)
    await set_revision(engine, "0001")
    monkeypatch.setattr("alembic.script.ScriptDirectory.get_current_head", lambda _self: "0002")
    with pytest.raises(StoreUnavailable, match=r"0001 is older than this Pawl's 0002.*pawl migrate"):
        await check_current(engine)

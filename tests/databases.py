"""Migrated SQLite files for tests: the schema is made once in a process and copied for each test."""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import threading
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from tests.polling import eventually

FILE = "pawl.db"
_WORKER = "_connection_worker_thread"  # in the name of every thread of aiosqlite


def sqlite_url(path: Path) -> str:
    """The URL of a SQLite file."""
    return f"sqlite+aiosqlite:///{path}"


def migrate(url: str) -> None:
    """Makes the tables and closes every connection. Works inside a running event loop, too."""

    async def run() -> None:
        engine = connect(url)
        try:
            await upgrade(engine)
        finally:
            await engine.dispose()

    with ThreadPoolExecutor(1) as thread:
        thread.submit(lambda: asyncio.run(run())).result()


def new_database(folder: Path) -> Path:
    """A migrated, empty database in a folder; one that is there already stays as it is."""
    path = folder / FILE
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(_template(), path)
    return path


def open_database(folder: Path) -> AsyncEngine:
    """An engine on `new_database(folder)`. It does not wait for the disk: a test needs no file that outlives a crash of
    the machine.
    """
    engine = connect(sqlite_url(new_database(folder)))

    @event.listens_for(engine.sync_engine, "connect")
    def do_not_wait_for_the_disk(connection: Any, _record: object) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA synchronous=OFF")
        cursor.close()

    return engine


async def close_database(engine: AsyncEngine, before: Collection[threading.Thread] = ()) -> None:
    """Closes an engine's connections and waits for the threads that work for them; `before` are older threads.

    A call that was cancelled leaves its connection's thread at work. It answers its event loop, so the loop must still
    be open.
    """
    await engine.dispose()
    with suppress(TimeoutError):  # threads of another database, which another fixture closes
        await eventually(lambda: not [t for t in threading.enumerate() if t not in before and _WORKER in t.name], 2.0)


@cache
def _template() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="pawl-template-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    migrate(sqlite_url(folder / FILE))
    return folder / FILE

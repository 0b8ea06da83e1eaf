"""Connections and transactions on SQLite and PostgreSQL. Faults of the database are raised as `StoreUnavailable`."""

from __future__ import annotations

import asyncio
import json
import math
import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from enum import IntEnum
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import (
    URL,
    Column,
    ColumnElement,
    Connection,
    Insert,
    String,
    Table,
    any_,
    event,
    exc,
    func,
    literal,
    make_url,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pawl.db.faults import translated
from pawl.db.silence import Silence
from pawl.deadlines import seconds_left, within_budget
from pawl.domain.errors import SettingInvalid
from pawl.installed import install_command

ANSWER_SECONDS = 30.0
_CHUNK = 1000  # rows or ids in one statement
_WRITE = "pawl_write"
_WRITER_LOCK = "pawl_writer_lock"
_BUSY = "pawl_busy_timeout"
_SILENCE = "pawl_silence"
_STRIPES = 64  # advisory locks that one transaction can hold in one space at most
_SECRET_PARAMETERS = ("password", "sslpassword")
_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
}

T = TypeVar("T")


class LockSpace(IntEnum):
    """First halves of the keys of PostgreSQL's advisory locks, one for each kind of thing that is locked."""

    # Advisory locks are one space of numbers for all programs in a database; 0x7061 ("pa") sets Pawl's apart.
    MIGRATION = 0x7061_0001
    IDEMPOTENCY_KEY = 0x7061_0002
    TEXT = 0x7061_0003
    EVENTS = 0x7061_0004
    LABELS = 0x7061_0005
    ENCODERS = 0x7061_0008


def redact_url(url: str) -> str:
    """The URL of a database or of Redis without its password, for messages and logs."""
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        return "(not a URL)"
    # libpq takes a password as a parameter, too; `hide_password` masks only the one before the host.
    hidden = {name: "***" for name in _SECRET_PARAMETERS if name in parsed.query}
    return parsed.update_query_dict(hidden).render_as_string(hide_password=True)


def connect(settings_sql_url: str, answer_seconds: float = ANSWER_SECONDS) -> AsyncEngine:
    """An engine for a URL like `sqlite+aiosqlite:////folder/pawl.db` or `postgresql+psycopg://user:pw@host/db`.

    Opens no connection. The driver may be left out. No answer of the server, and no lock on the file, is waited for
    longer than `answer_seconds` (see `deadlines`). Raises `SettingInvalid` for a URL that cannot be used.
    """
    try:
        url = make_url(settings_sql_url)
        url = url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))
        if url.drivername == _DRIVERS["sqlite"]:
            return _connect_sqlite(url, answer_seconds)
        if url.drivername == _DRIVERS["postgresql"]:
            return _connect_postgresql(url, answer_seconds)
        problem = f"the driver is {url.drivername!r}, Pawl works with {sorted(set(_DRIVERS.values()))}"
    except exc.ArgumentError:
        problem = "it is not a database URL"
    except ModuleNotFoundError as error:
        problem = f"{error}; install it with: {install_command('postgres')}"
    raise SettingInvalid(name="PAWL_DATABASE_URL", value=redact_url(settings_sql_url), problem=problem)


def _connect_sqlite(url: URL, answer_seconds: float) -> AsyncEngine:
    engine = create_async_engine(
        url,
        pool_size=8,
        max_overflow=0,
        pool_timeout=answer_seconds,
        connect_args={"timeout": answer_seconds},
        json_serializer=to_json,
        # One process's writers queue here, in order; SQLite's own busy handler sleeps and is unfair.
        execution_options={_WRITER_LOCK: asyncio.Lock()},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def prepare(connection: Any, _record: object) -> None:
        connection.isolation_level = None  # the driver starts no transactions of its own
        cursor = connection.cursor()
        # WAL: readers go on while one writes. FULL: each commit is flushed, because a 202 promises that a power cut
        # loses nothing; WAL's usual NORMAL may lose the last commits. Foreign keys are off in SQLite unless asked for.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        # Immediate: one that reads first and writes later cannot go on once another one has written. What only reads
        # needs no transaction: each statement sees the last commit, as on PostgreSQL, and two calls are saved.
        if connection.get_execution_options().get(_WRITE, False):
            # The driver's thread cannot be called back from its wait for the lock, so it is told how long that may be.
            # In steps of 0.1 s: what is left of a budget differs each time, and each change is one more call to that
            # thread.
            patience = round(1000 * seconds_left(answer_seconds), -2)
            if connection.info.get(_BUSY, round(1000 * answer_seconds, -2)) != patience:
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {patience:.0f}")
                connection.info[_BUSY] = patience
            connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def _connect_postgresql(url: URL, answer_seconds: float) -> AsyncEngine:
    from pawl.db.postgresql import connector

    # A peer that vanished without closing (power cut, firewall) is noticed by the kernel: keep-alives (s) on idle
    # connections, an end to waiting for acknowledgements (ms) on others. What the URL says of these wins.
    limits = {"keepalives_idle": 10, "keepalives_interval": 5, "tcp_user_timeout": 20_000}
    return create_async_engine(
        url,
        pool_size=8,
        max_overflow=8,
        pool_timeout=answer_seconds,
        # After a restart of the server every pooled connection is dead; the ping replaces it before a request fails on
        # it.
        pool_pre_ping=True,
        connect_args={
            **{name: value for name, value in limits.items() if name not in url.query},
            "async_creator_fn": connector(answer_seconds),
            # A pooler that lends a server's connection for a transaction (PgBouncer) does not know what was prepared.
            "prepare_threshold": None,
        },
        json_serializer=to_json,
        execution_options={_SILENCE: Silence(answer_seconds)},
    )


@asynccontextmanager
async def reading(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that only reads. Each of its statements sees the last commit, not all of them one moment."""
    with translated(engine.url), _silence_of(engine):
        # `translated` is outermost: running out of budget and a silent server have to become `StoreUnavailable`, too.
        async with within_budget(), engine.begin() as connection:
            yield connection


@asynccontextmanager
async def writing(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction that writes: committed at the end, rolled back by an exception."""
    writer = engine.sync_engine.get_execution_options().get(_WRITER_LOCK) or nullcontext()
    with translated(engine.url), _silence_of(engine):
        # The wait for other writers counts against the budget, and ends before a connection is taken from the pool:
        # readers find one however many writers queue.
        async with within_budget(), writer, engine.execution_options(**{_WRITE: True}).begin() as connection:
            yield connection


def _silence_of(engine: AsyncEngine) -> AbstractContextManager[None]:
    silence: Silence | None = engine.sync_engine.get_execution_options().get(_SILENCE)
    return nullcontext() if silence is None else silence.noticed()


async def serialise(
    connection: AsyncConnection, space: LockSpace, names: Iterable[str], *, shared: bool = False
) -> None:
    """Locks names until the transaction ends: others that name one of them wait. `shared` locks exclude each other not,
    and wait for the exclusive ones alone.

    SQLite has one writer anyway. PostgreSQL takes advisory locks on a few stripes, in ascending order, so that two
    transactions with many names in common cannot deadlock and a bulk import does not fill the lock table.
    """
    if connection.dialect.name != "postgresql":
        return
    # crc32, not `hash`: that of a string is salted anew in each process, and all must take the same stripe.
    for stripe in sorted({zlib.crc32(name.encode("utf-8", "surrogatepass")) % _STRIPES for name in names}):
        lock = func.pg_advisory_xact_lock_shared if shared else func.pg_advisory_xact_lock
        await connection.execute(select(lock(int(space), stripe)))


def insert_or(connection: AsyncConnection, table: Table) -> postgresql.Insert | sqlite.Insert:
    """An INSERT that can be given `on_conflict_do_...` on this connection's database."""
    return postgresql.insert(table) if connection.dialect.name == "postgresql" else sqlite.insert(table)


def among(connection: AsyncConnection, column: Column[str], values: Sequence[str]) -> ColumnElement[bool]:
    """`column IN (values)` with one parameter for all values.

    A parameter for each would meet SQLite's limit on variables, and PostgreSQL compares a long list of them row by row
    (measured: 10,000 texts looked up in 10,000 rows took 10 s instead of 0.3 s).
    """
    if len(values) == 1:  # as with every correction: a tenth of the time to put the statement together
        return column == values[0]
    if connection.dialect.name == "postgresql":
        return column == any_(literal(list(values), postgresql.ARRAY(String)))
    each = func.json_each(json.dumps(list(values))).table_valued("value")
    return column.in_(select(each.c.value))


async def insert_many(connection: AsyncConnection, statement: Insert, rows: Iterable[dict[str, Any]]) -> None:
    """Inserts any number of rows, a chunk at a time, so that the parameters in memory stay bounded."""
    for chunk in chunked(rows):
        await connection.execute(statement, chunk)


def chunked(values: Iterable[T], size: int = _CHUNK) -> Iterator[Sequence[T]]:
    """Lists of at most `size` values, in order."""
    iterator = iter(values)
    while chunk := list(islice(iterator, size)):
        yield chunk


def to_json(value: Any) -> str:
    """Returns JSON in which numbers that are not finite are null.

    PostgreSQL refuses `NaN`, and the report of a candidate that was refused because of one must be stored.
    """
    try:
        return json.dumps(value, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

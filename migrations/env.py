"""Alembic's entry: migrates over the connection it is given, or over one it makes from the `PAWL_` settings.

The application calls `pawl.db.migrate.upgrade`, which gives the connection and the lock that keeps two processes
from migrating at once.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from alembic import context
from alembic.autogenerate.api import AutogenContext
from sqlalchemy import Connection

from pawl.db.engine import connect, writing
from pawl.db.tables import metadata
from pawl.db.utc import UtcDateTime
from pawl.settings import load_settings


def render_type(kind: str, item: object, _context: AutogenContext) -> str | Literal[False]:
    """Keeps the application's types out of revisions: they must go on working when the code has changed."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def migrate(connection: Connection) -> None:
    """Runs what Alembic was asked for inside the connection's transaction."""
    context.configure(
        connection=connection,
        target_metadata=metadata,
        # SQLite alters hardly anything of a table: batch mode copies it into a new one.
        render_as_batch=connection.dialect.name == "sqlite",
        render_item=render_type,
    )
    with context.begin_transaction():
        context.run_migrations()


async def migrate_configured() -> None:
    """For `alembic` on the command line, e.g. to write a new revision."""
    engine = connect(load_settings().sql_url)
    try:
        async with writing(engine) as connection:
            await connection.run_sync(migrate)
    finally:
        await engine.dispose()


given = context.config.attributes.get("connection")
if given is None:
    asyncio.run(migrate_configured())
else:
    migrate(given)

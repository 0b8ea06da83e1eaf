"""Tries what Pawl does with the database on a row of its own, so that `pawl doctor` finds missing rights."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime

from sqlalchemy import delete, func, insert, literal, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.db.tables import idempotency_keys, metadata
from pawl.domain.errors import StoreUnavailable

_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")


async def rehearse(engine: AsyncEngine) -> None:
    """Writes a row, commits, reads, changes and removes it; on PostgreSQL asks for the rights on every table.

    The row is an idempotency key: a row of another table would be learned, served or shown. Raises `StoreUnavailable`
    with the server's reason.
    """
    async with reading(engine) as connection:
        await _check_rights(connection)
    key = f"pawl-doctor-{secrets.token_hex(8)}"
    mine = idempotency_keys.c.key == key
    async with writing(engine) as connection:
        await serialise(connection, LockSpace.IDEMPOTENCY_KEY, [key])
        row = {"key": key, "body_digest": "", "receipts": [], "created_at": datetime.now(UTC)}
        await connection.execute(insert(idempotency_keys).values(row))
    async with writing(engine) as connection:
        await connection.execute(update(idempotency_keys).where(mine).values(body_digest="read"))
        value = await connection.scalar(select(idempotency_keys.c.body_digest).where(mine))
        await connection.execute(delete(idempotency_keys).where(mine))
    if value != "read":
        raise StoreUnavailable(problem="what is written cannot be read back")


async def _check_rights(connection: AsyncConnection) -> None:
    if connection.dialect.name != "postgresql":
        return
    asked = [
        func.has_table_privilege(literal(table), literal(right)).label(f"{right} on {table}")
        for table in sorted(metadata.tables)
        for right in _RIGHTS
    ]
    answers = (await connection.execute(select(*asked))).one()
    missing = [name for name, allowed in zip(answers._fields, answers, strict=True) if not allowed]
    if missing:
        raise StoreUnavailable(problem=f"its user lacks a right that Pawl needs: {', '.join(missing)}")

"""Imports in SQL: which samples came together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.core.db.engine import among, chunked, reading
from app.core.db.tables import imports as table
from app.core.domain.imports import Import, NewImport
from app.core.ports import Clock

_COLUMNS = [table.c[field.name] for field in fields(Import)]


class ImportTable:
    """The part of `SampleStore` that keeps imports."""

    _engine: AsyncEngine

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """See `ImportStore.imports`."""
        found: dict[str, Import] = {}
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(import_ids)):
                rows = await connection.execute(select(*_COLUMNS).where(among(connection, table.c.id, ids)))
                found |= {row.id: Import(*row) for row in rows}
        return found


async def add_imports(connection: AsyncConnection, clock: Clock, imports: Sequence[NewImport]) -> None:
    """Writes imports down, in the caller's transaction."""
    if imports:
        now = clock.now()
        await connection.execute(insert(table), [asdict(one) | {"created_at": now} for one in imports])

"""Keeps in SQL what refused versions would have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.db.engine import among, chunked, insert_many, reading
from pawl.db.tables import QUARANTINED, samples, versions
from pawl.db.tables import refusals as table
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.versions import RefusedAction, RefusedRow

_COLUMNS = [table.c[field.name] for field in fields(RefusedRow)]


class RefusalTable:
    """The part of `VersionLedger` that remembers refused versions."""

    _engine: AsyncEngine

    async def refused(self, number: int) -> list[RefusedRow]:
        """See `VersionLedger.refused`."""
        query = select(*_COLUMNS).where(table.c.version == number).order_by(table.c.sample_id)
        async with reading(self._engine) as connection:
            return [
                RefusedRow(
                    row.version, row.sample_id, RefusedAction(row.action), row.emphasis, row.reason,
                    QuarantineKind(row.kind) if row.kind else None, row.replaced_by,
                )
                for row in await connection.execute(query)
            ]  # fmt: skip

    async def refusals_of(self, sample_ids: Sequence[str]) -> list[int]:
        """See `VersionLedger.refusals_of`."""
        learn, versions = table.c.action == RefusedAction.LEARN.value, set[int]()
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(sample_ids)):
                numbers = select(table.c.version).where(among(connection, table.c.sample_id, ids), learn).distinct()
                versions.update(await connection.scalars(numbers))
        return sorted(versions)

    async def refused_with(self, sample_ids: Sequence[str]) -> list[str]:
        """See `VersionLedger.refused_with`."""
        learn, ids_refused = table.c.action == RefusedAction.LEARN.value, set[str]()
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(sample_ids)):
                versions = select(table.c.version).where(among(connection, table.c.sample_id, ids), learn)
                # Together with one of these, in one refused version: what comes again in parts is judged as that whole
                # was.
                others = select(table.c.sample_id).where(table.c.version.in_(versions), learn).distinct()
                ids_refused.update(await connection.scalars(others))
        return sorted(ids_refused.difference(sample_ids))


async def keep_refused(connection: AsyncConnection, rows: Sequence[RefusedRow]) -> None:
    """Writes down what a version would have changed, in the transaction that records it."""
    await insert_many(connection, insert(table), (asdict(row) | {"action": row.action.value} for row in rows))


async def forget_refused(connection: AsyncConnection) -> None:
    """Deletes what refused versions without files would have changed, because they cannot be promoted any more.

    Rows stay while one of a version's samples is in quarantine: parts that are released later are judged by what the
    whole was refused for.
    """
    without_files = select(versions.c.number).where(versions.c.artefacts_kept.is_(False))
    held = select(table.c.version).join(samples, samples.c.id == table.c.sample_id).where(QUARANTINED)
    await connection.execute(delete(table).where(table.c.version.in_(without_files), table.c.version.not_in(held)))

"""Imports in SQL: which samples came together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import case, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import among, chunked, reading
from pawl.db.events import add_events
from pawl.db.sample_rows import lock_samples, select_samples
from pawl.db.tables import imports as table
from pawl.db.tables import samples
from pawl.domain.imports import ExportedHeads, Import, ImportOutcome, NewImport
from pawl.domain.samples import Sample, SampleState

ACCEPTED = "import_accepted"
_COLUMNS = [table.c[field.name] for field in fields(Import)]


class ImportTable:
    """The part of `SampleStore` that keeps imports."""

    _engine: AsyncEngine

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """See `ImportStore.imports`."""
        imports: dict[str, Import] = {}
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(import_ids)):
                rows = await connection.execute(select(*_COLUMNS).where(among(connection, table.c.id, ids)))
                imports |= {row["id"]: _import(row) for row in rows.mappings()}
        return imports

    async def waiting(self, import_ids: Sequence[str], sample_ids: Sequence[str]) -> int:
        """See `ImportStore.waiting`."""
        queued = select(func.count()).where(samples.c.state == SampleState.QUEUED.value)
        count = 0
        async with reading(self._engine) as connection:
            for import_id in import_ids:
                count += await connection.scalar(queued.where(samples.c.import_id == import_id)) or 0
            for ids in chunked(sample_ids):
                count += await connection.scalar(queued.where(among(connection, samples.c.id, ids))) or 0
        return count

    async def outcomes(self, import_ids: Sequence[str]) -> list[ImportOutcome]:
        """See `ImportStore.outcomes`."""
        replaced = samples.c.replaced_by.is_not(None)
        # Each of these reasons names another sample: grouped by it, every row of an import would be a group of its own.
        reason = case((replaced, None), else_=samples.c.reason)
        group = (samples.c.task, samples.c.label, samples.c.state, reason, replaced)
        outcomes: list[ImportOutcome] = []
        async with reading(self._engine) as connection:
            for import_id in import_ids:
                query = select(*group, func.count()).where(samples.c.import_id == import_id).group_by(*group)
                rows = await connection.execute(query)
                outcomes += [
                    ImportOutcome(task, label, SampleState(state), *rest) for task, label, state, *rest in rows
                ]
        return sorted(outcomes, key=lambda each: (each.task, each.label, each.state, -each.count, each.reason or ""))

    async def of_import(self, import_id: str, state: SampleState, limit: int, after_seq: int = 0) -> list[Sample]:
        """See `ImportStore.of_import`."""
        wanted = (samples.c.import_id == import_id, samples.c.state == state.value, samples.c.seq > after_seq)
        async with reading(self._engine) as connection:
            return await select_samples(connection, *wanted, limit=limit)


def _import(values: Mapping[Any, Any]) -> Import:
    heads = values["heads"]
    return Import(**{**values, "heads": None if heads is None else ExportedHeads.from_json(heads)})


async def add_imports(connection: AsyncConnection, clock: Clock, imports: Sequence[NewImport]) -> None:
    """Writes imports down, in the caller's transaction."""
    if imports:
        now = clock.now()
        await connection.execute(insert(table), [_values(new) | {"created_at": now} for new in imports])


def _values(new: NewImport) -> dict[str, Any]:
    return asdict(new) | {"heads": None if new.heads is None else new.heads.to_json()}


async def release_to_imports(
    connection: AsyncConnection, clock: Clock, released: Mapping[str, str], imports: Sequence[NewImport]
) -> None:
    """Queues quarantined samples (id -> import) again for imports whose owner insists, with an event for each."""
    now = clock.now()
    for new in imports:
        ids = sorted(id for id, import_id in released.items() if import_id == new.id)
        for chunk in chunked(ids):
            await lock_samples(connection, chunk)
            # Their states need no look: `accept` has planned on them under locks that this transaction still holds.
            chosen = update(samples).where(among(connection, samples.c.id, chunk))
            values = {
                "state": SampleState.QUEUED.value,
                "reason": f"accepted with {new.id}: {new.accept_reason}",
                "import_id": new.id,
            }
            await connection.execute(chosen.values(**values, reviewed_at=now, updated_at=now))
        if new.accept_reason is not None:
            await add_events(connection, clock, [(ACCEPTED, asdict(new) | {"released": len(ids)})])

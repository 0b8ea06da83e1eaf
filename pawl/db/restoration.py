"""Brings back the labels that a roll-back's quarantined labels had replaced."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from pawl.db.engine import among, chunked
from pawl.db.sample_rows import lock_samples, move_samples, select_samples
from pawl.db.tables import samples as table
from pawl.domain.promotion import RESTORED, replaced_since
from pawl.domain.samples import Move, SampleState
from pawl.domain.versions import LedgerChange, NewVersion


async def restore_replaced(
    connection: AsyncConnection, version: NewVersion, change: LedgerChange, now: datetime
) -> None:
    """Queues them again. Call it in the roll-back's transaction, after the others are quarantined."""
    for ids in chunked(sorted(change.quarantined)):
        quarantined = await select_samples(connection, among(connection, table.c.id, ids))
        texts = {(sample.task, sample.text_digest) for sample in quarantined}
        # By digest alone, as the index has it; other tasks' samples of the text are left out below.
        same_text = among(connection, table.c.text_digest, sorted({digest for _, digest in texts}))
        alike = [
            sample
            for sample in await select_samples(connection, same_text)
            if (sample.task, sample.text_digest) in texts
        ]
        superseded = await connection.scalars(select(table.c.id).where(same_text, table.c.superseded))
        back = replaced_since(version, change, alike, set(superseded))
        locked = await lock_samples(connection, sorted(back))
        # A client may have taken one back between the reading and the lock (PostgreSQL); then it stays out.
        still = [id for id, sample in locked.items() if sample.replaced_by is not None]
        await move_samples(connection, dict.fromkeys(still, Move(SampleState.QUEUED, RESTORED)), now)

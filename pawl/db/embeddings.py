"""Keeps embeddings in SQL: neither a restart nor a new head has to encode the stored texts again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import delete, select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import among, chunked, insert_or, reading, writing
from pawl.db.sample_rows import select_samples
from pawl.db.tables import CUT, samples
from pawl.db.tables import embeddings as table
from pawl.domain.samples import Sample, SampleState
from pawl.ports import Floats

_STORED = np.dtype("<f4")  # little-endian whatever the machine: a database may be moved to another one


# `CUT` for the alias: literal as well, so that the partial index is found.
CUT_OF_OLD = text("old.cut IS NOT NULL")


class EmbeddingTable:
    """The part of `SampleStore` that keeps embeddings."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put_embeddings(
        self, encoder_digest: str, embeddings: Mapping[str, Floats], cuts: Mapping[str, str] | None = None
    ) -> None:
        """See `SampleStore.put_embeddings`."""
        known = cuts or {}
        if not embeddings:
            return
        async with writing(self._engine) as connection:
            statement = insert_or(connection, table)
            statement = statement.on_conflict_do_update(
                index_elements=["encoder_digest", "sample_id"],
                set_={"vector": statement.excluded.vector, "cut": statement.excluded.cut},
            )
            # Sorted: two writers of the same rows lock them in the same order.
            for chunk in chunked(sorted(embeddings)):
                rows = [
                    {
                        "encoder_digest": encoder_digest,
                        "sample_id": sample_id,
                        "vector": embeddings[sample_id].astype(_STORED).tobytes(),
                        "cut": known.get(sample_id),
                    }
                    for sample_id in chunk
                ]
                await connection.execute(statement, rows)

    async def get_embeddings(self, encoder_digest: str, sample_ids: Sequence[str]) -> dict[str, Floats]:
        """See `SampleStore.get_embeddings`."""
        embeddings: dict[str, Floats] = {}
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(sample_ids)):
                query = select(table.c.sample_id, table.c.vector)
                query = query.where(table.c.encoder_digest == encoder_digest, among(connection, table.c.sample_id, ids))
                for sample_id, vector in await connection.execute(query):
                    # `astype` copies: a view of the driver's bytes cannot be written to.
                    embeddings[sample_id] = np.frombuffer(vector, dtype=_STORED).astype(np.float32)
        return embeddings

    async def copy_cuts(self, old_digest: str, new_digest: str) -> None:
        """See `SampleStore.copy_cuts`."""
        old = table.alias("old")
        cut = select(old.c.cut).where(old.c.encoder_digest == old_digest, old.c.sample_id == table.c.sample_id)
        known = select(old.c.sample_id).where(old.c.encoder_digest == old_digest, CUT_OF_OLD)
        statement = update(table).where(table.c.encoder_digest == new_digest, table.c.sample_id.in_(known))
        async with writing(self._engine) as connection:
            await connection.execute(statement.values(cut=cut.scalar_subquery()))

    async def cut_alike(self, encoder_digest: str, task: str, cuts: Sequence[str]) -> dict[str, list[Sample]]:
        """See `SampleStore.cut_alike`."""
        alike: dict[str, list[Sample]] = {}
        async with reading(self._engine) as connection:
            for chunk in chunked(dict.fromkeys(cuts)):
                mine = (table.c.encoder_digest == encoder_digest, CUT, among(connection, table.c.cut, chunk))
                rows = (await connection.execute(select(table.c.sample_id, table.c.cut).where(*mine))).all()
                cut_of: dict[str, str] = {row.sample_id: row.cut for row in rows}
                for ids in chunked(cut_of):
                    for sample in await select_samples(connection, among(connection, samples.c.id, ids)):
                        if sample.task == task and sample.state in (SampleState.QUEUED, SampleState.LEARNED):
                            alike.setdefault(cut_of[sample.id], []).append(sample)
        return {cut: sorted(samples_alike, key=lambda sample: sample.seq) for cut, samples_alike in alike.items()}

    async def cut_conflicts(self, encoder_digest: str) -> set[str]:
        """See `SampleStore.cut_conflicts`."""
        joined = table.join(samples, samples.c.id == table.c.sample_id)
        query = select(table.c.sample_id, table.c.cut, samples.c.task, samples.c.label).select_from(joined)
        query = query.where(table.c.encoder_digest == encoder_digest, CUT, samples.c.state == SampleState.LEARNED.value)
        async with reading(self._engine) as connection:
            rows = (await connection.execute(query)).all()
        labels: dict[tuple[str, str], set[str]] = {}
        for _, cut, task, label in rows:
            labels.setdefault((cut, task), set()).add(label)
        return {sample_id for sample_id, cut, task, _ in rows if len(labels[cut, task]) > 1}

    async def drop_embeddings(self, keep: Sequence[str]) -> int:
        """See `SampleStore.drop_embeddings`."""
        async with writing(self._engine) as connection:
            removed = await connection.execute(delete(table).where(table.c.encoder_digest.not_in(keep)))
            return removed.rowcount

"""Kept embeddings in SQL, so that a restart or a new head does not encode the store again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from sqlalchemy import delete, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.core.db.engine import among, chunked, insert_or, reading, writing
from app.core.db.tables import embeddings as table
from app.core.ports import Floats

_STORED = np.dtype("<f4")


class EmbeddingTable:
    """The part of `SampleStore` that keeps embeddings."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def put_embeddings(self, encoder_digest: str, embeddings: Mapping[str, Floats]) -> None:
        """See `SampleStore.put_embeddings`."""
        if not embeddings:
            return
        async with writing(self._engine) as connection:
            statement = insert_or(connection, table)
            statement = statement.on_conflict_do_update(
                index_elements=["encoder_digest", "sample_id"], set_={"vector": statement.excluded.vector}
            )
            # Sorted: two writers of the same rows lock them in the same order.
            for chunk in chunked(sorted(embeddings)):
                rows = [
                    {
                        "encoder_digest": encoder_digest,
                        "sample_id": sample_id,
                        "vector": embeddings[sample_id].astype(_STORED).tobytes(),
                    }
                    for sample_id in chunk
                ]
                await connection.execute(statement, rows)

    async def get_embeddings(self, encoder_digest: str, sample_ids: Sequence[str]) -> dict[str, Floats]:
        """See `SampleStore.get_embeddings`."""
        found: dict[str, Floats] = {}
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(sample_ids)):
                query = select(table.c.sample_id, table.c.vector)
                query = query.where(table.c.encoder_digest == encoder_digest, among(connection, table.c.sample_id, ids))
                for sample_id, vector in await connection.execute(query):
                    found[sample_id] = np.frombuffer(vector, dtype=_STORED).astype(np.float32)
        return found

    async def drop_embeddings(self, keep: Sequence[str]) -> int:
        """See `SampleStore.drop_embeddings`."""
        async with writing(self._engine) as connection:
            gone = await connection.execute(delete(table).where(table.c.encoder_digest.not_in(keep)))
            return gone.rowcount

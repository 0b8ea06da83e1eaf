"""Answers in SQL, so that feedback can name one by id."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime

from sqlalchemy import ColumnElement, delete, func, select, true
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import among, chunked, insert_or, reading, writing
from pawl.db.tables import predictions as table
from pawl.domain.predictions import Prediction

_COLUMNS = tuple(field.name for field in fields(Prediction))
_EXPIRY_CHUNK = 2000  # rows removed in one transaction: a long one would keep corrections waiting


class SqlPredictionLog:
    """`PredictionLog` on SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def write(self, predictions: Sequence[Prediction]) -> None:
        """See `PredictionLog.write`."""
        if not predictions:
            return
        async with writing(self._engine) as connection:
            # A batch may come twice: where the answer to a commit was lost it is not known whether it went through.
            statement = insert_or(connection, table).on_conflict_do_nothing()
            # Sorted: two writers of the same ids wait for each other instead of deadlocking.
            for chunk in chunked(sorted(predictions, key=lambda prediction: prediction.id)):
                # not `asdict`, whose deep copies took a third of the event loop's time for a prediction
                await connection.execute(
                    statement, [{name: getattr(prediction, name) for name in _COLUMNS} for prediction in chunk]
                )

    async def get_many(self, prediction_ids: Sequence[str]) -> dict[str, Prediction]:
        """See `PredictionLog.get_many`."""
        predictions: dict[str, Prediction] = {}
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(prediction_ids)):
                for row in await connection.execute(select(table).where(among(connection, table.c.id, ids))):
                    predictions[row.id] = Prediction(*row)
        return predictions

    async def expire(self, before: datetime, keep: int) -> int:
        """See `PredictionLog.expire`. Works in several short transactions, oldest first."""
        removed = await self._remove_oldest(table.c.created_at < before, None)
        async with reading(self._engine) as connection:
            count = await connection.scalar(select(func.count()).select_from(table)) or 0
        return removed + await self._remove_oldest(true(), max(0, count - keep))

    async def _remove_oldest(self, condition: ColumnElement[bool], most: int | None) -> int:
        removed = 0
        while most is None or removed < most:
            limit = _EXPIRY_CHUNK if most is None else min(_EXPIRY_CHUNK, most - removed)
            oldest = select(table.c.id).where(condition)
            oldest = oldest.order_by(table.c.created_at, table.c.id).limit(limit)
            async with writing(self._engine) as connection:
                in_chunk = (await connection.execute(delete(table).where(table.c.id.in_(oldest)))).rowcount
            removed += in_chunk
            # Fewer than asked for: nothing is left, or another process expires the same rows; it goes on then.
            if in_chunk < limit:
                break
        return removed

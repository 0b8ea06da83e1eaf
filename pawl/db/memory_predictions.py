"""The in-memory twin of the prediction log in SQL."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from pawl.domain.predictions import Prediction

if TYPE_CHECKING:
    from pawl.db.memory import MemoryDatabase


class MemoryPredictionLog:
    """`PredictionLog` in memory."""

    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database

    async def write(self, predictions: Sequence[Prediction]) -> None:
        """See `PredictionLog.write`."""
        for prediction in predictions:
            self._database.predictions.setdefault(prediction.id, prediction)

    async def get_many(self, prediction_ids: Sequence[str]) -> dict[str, Prediction]:
        """See `PredictionLog.get_many`."""
        known = self._database.predictions
        return {id: known[id] for id in prediction_ids if id in known}

    async def expire(self, before: datetime, keep: int) -> int:
        """See `PredictionLog.expire`."""
        known = self._database.predictions
        oldest_first: Iterable[Prediction] = sorted(known.values(), key=lambda one: (one.created_at, one.id))
        fresh = [prediction for prediction in oldest_first if prediction.created_at >= before]
        kept = fresh[max(0, len(fresh) - keep) :]
        gone = len(known) - len(kept)
        self._database.predictions = {prediction.id: prediction for prediction in kept}
        return gone

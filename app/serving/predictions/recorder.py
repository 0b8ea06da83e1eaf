"""Answers on their way to SQL: a bounded buffer and a writer in the background.

A prediction never waits for SQL and never fails because of it. Feedback may name a prediction before it is written,
so a look-up asks the buffer first.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import OrderedDict
from collections.abc import Sequence

import structlog

from app.metrics import AppMetrics
from pawl.backoff import Backoff
from pawl.domain.errors import StoreUnavailable
from pawl.domain.predictions import Prediction
from pawl.ports import PredictionLog
from pawl.settings import Settings

log = structlog.get_logger(__name__)

_WRITE_EVERY_SECONDS = 0.05
# Three times the pause between two writes of the process that answered.
_OTHERS_WRITE_WITHIN_SECONDS = 0.15
_ROWS_PER_WRITE = 1000


class PredictionRecorder:
    """Takes answers, writes them in batches, finds them by id."""

    def __init__(self, predictions: PredictionLog, settings: Settings, metrics: AppMetrics) -> None:
        self._predictions = predictions
        self._limit = settings.prediction_buffer
        self._character_limit = settings.prediction_buffer_characters
        self._metrics = metrics
        self._buffer: OrderedDict[str, Prediction] = OrderedDict()
        self._characters = 0
        self._filled = asyncio.Event()
        metrics.prediction_buffer.set_function(lambda: len(self._buffer))

    def record(self, predictions: Sequence[Prediction]) -> None:
        """Buffers answers; drops the oldest beyond the limits."""
        for prediction in predictions:
            self._buffer[prediction.id] = prediction
            self._characters += len(prediction.text)
        # Two limits: by number alone a few thousand long texts would fill the memory while SQL is away.
        while len(self._buffer) > self._limit or self._characters > self._character_limit:
            _, dropped = self._buffer.popitem(last=False)
            self._characters -= len(dropped.text)
            self._metrics.predictions_dropped.inc()
        self._filled.set()

    async def find(self, prediction_ids: Sequence[str]) -> dict[str, Prediction]:
        """The predictions that are known. Raises `StoreUnavailable` when SQL is needed and gone.

        An id that is unknown is looked for once more after a moment: another process may have answered just now and
        not written it yet, and feedback that comes at once must not be refused for that.
        """
        known = {
            prediction_id: self._buffer[prediction_id]
            for prediction_id in prediction_ids
            if prediction_id in self._buffer
        }
        for pause in (0.0, _OTHERS_WRITE_WITHIN_SECONDS):
            missing = [prediction_id for prediction_id in dict.fromkeys(prediction_ids) if prediction_id not in known]
            if missing:
                await asyncio.sleep(pause)
                known.update(await self._predictions.get_many(missing))
        return known

    async def run(self) -> None:
        """Writes what is buffered, about every 50 ms while there is something; keeps it while SQL is down."""
        backoff = Backoff(rest=_WRITE_EVERY_SECONDS)
        while True:
            await self._filled.wait()
            await asyncio.sleep(backoff.pause)
            try:
                await self.flush()
            except StoreUnavailable as error:
                if not backoff.failures:
                    log.warning("prediction_log_unavailable", problem=str(error))
                backoff.next_pause()
                self._metrics.prediction_write_failures.inc()
            else:
                backoff.reset()

    async def flush(self) -> None:
        """Writes everything that is buffered now. Raises `StoreUnavailable`."""
        while self._buffer:
            rows = list(itertools.islice(self._buffer.values(), _ROWS_PER_WRITE))  # a copy: answers come in meanwhile
            await self._predictions.write(rows)
            # removed only now: until the commit, a look-up has to find them here
            for row in rows:
                if self._buffer.pop(row.id, None) is not None:  # the limit may have dropped it meanwhile
                    self._characters -= len(row.text)
        # Nothing is awaited since the buffer was seen empty, so no answer came in whose signal would be lost here.
        # After a failure it stays set, and `run` tries again.
        self._filled.clear()

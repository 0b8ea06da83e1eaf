from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from app.metrics import AppMetrics
from app.serving.predictions.recorder import PredictionRecorder
from app.serving.retention import Retention
from pawl.db.engine import connect
from pawl.db.predictions import SqlPredictionLog
from pawl.db.versions import SqlVersionLedger
from pawl.domain.errors import StoreUnavailable
from pawl.domain.predictions import Prediction
from pawl.settings import Settings
from tests.polling import eventually

NOW = datetime(2025, 1, 1, tzinfo=UTC)


class SwitchableLog(SqlPredictionLog):
    is_up = True

    async def write(self, predictions: Sequence[Prediction]) -> None:
        if not self.is_up:
            raise StoreUnavailable(problem="switched off")
        await super().write(predictions)


def make(database: AsyncEngine, **overrides: Any) -> tuple[PredictionRecorder, SwitchableLog]:
    log = SwitchableLog(database)
    return PredictionRecorder(log, Settings(**overrides), AppMetrics()), log


def prediction(number: int, text: str = "text", at: datetime = NOW) -> Prediction:
    return Prediction(f"pr_{number}", 1, "default", text, "a", 0.5, "both", at)


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 10), st.integers(1, 60))
def test_the_buffer_keeps_the_newest_within_both_limits(lengths: list[int], rows: int, characters: int) -> None:
    async def scenario() -> None:
        nowhere = connect("sqlite:///never-opened.db")
        recorder, _ = make(nowhere, prediction_buffer=rows, prediction_buffer_characters=characters)
        for number, length in enumerate(lengths):
            recorder.record([prediction(number, "x" * length)])
        kept = list(recorder._buffer.values())
        assert len(kept) <= rows
        assert sum(len(one.text) for one in kept) == recorder._characters <= characters
        assert [one.id for one in kept] == [f"pr_{number}" for number in range(len(lengths))][
            len(lengths) - len(kept) :
        ]
        dropped = recorder._metrics.registry.get_sample_value("pawl_predictions_dropped_total")
        assert dropped == len(lengths) - len(kept)

    asyncio.run(scenario())


async def test_a_prediction_is_found_before_and_after_it_is_written(database: AsyncEngine) -> None:
    recorder, _ = make(database)
    recorder.record([prediction(1)])
    assert set(await recorder.find(["pr_1", "pr_2"])) == {"pr_1"}
    await recorder.flush()
    assert not recorder._buffer
    assert set(await recorder.find(["pr_1", "pr_2"])) == {"pr_1"}


async def test_nothing_is_lost_while_sql_is_down(database: AsyncEngine) -> None:
    recorder, log = make(database)
    log.is_up = False
    recorder.record([prediction(1)])
    with pytest.raises(StoreUnavailable):
        await recorder.flush()
    assert set(await recorder.find(["pr_1"])) == {"pr_1"}
    writing = asyncio.create_task(recorder.run())
    log.is_up = True
    await eventually(lambda: not recorder._buffer)
    writing.cancel()
    assert set(await log.get_many(["pr_1"])) == {"pr_1"}


async def test_retention_removes_what_is_old_and_what_is_too_much(database: AsyncEngine) -> None:
    recorder, log = make(database)
    ledger = SqlVersionLedger(database)
    recorder.record([prediction(n, at=NOW - timedelta(hours=n)) for n in range(6)])
    await recorder.flush()
    for _ in range(4):
        await ledger.append_event("test", {})
    settings = Settings(prediction_retention_hours=3.5, prediction_retention_rows=2, event_retention_rows=1)
    await Retention(log, ledger, settings, AppMetrics()).apply(NOW)
    assert set(await log.get_many([f"pr_{n}" for n in range(6)])) == {"pr_0", "pr_1"}
    assert [event.id for event in await ledger.events(0, 10)] == [4]

"""Beyond each limit there is a 413, 422 or 429, or the oldest goes; what waits has a metric that shows it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.metrics import AppMetrics
from app.serving.feedback.announcer import Announcer
from app.serving.retention import Retention
from pawl.clock import SystemClock
from pawl.db.samples import SqlSampleStore
from pawl.db.tables import idempotency_keys
from pawl.domain.errors import IdempotencyConflict
from pawl.domain.samples import IdempotencyKey, NewSample
from pawl.settings import Settings
from pawl.streams.redis_stream import RedisFeedbackStream
from tests.app.world import World, assert_problem
from tests.polling import eventually
from tests.streams import LocalStream
from tests.worker.examples import examples, learner, teach
from worker.assembly import assemble
from worker.state.learner_ports import LearnerPorts

Ask = Callable[[World, httpx.AsyncClient], Awaitable[httpx.Response]]


async def metric(client: httpx.AsyncClient, name: str) -> float:
    """The value of one sample in `/metrics`; fails where there is none. `name` includes the labels."""
    text = (await client.get("/metrics")).text
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    assert found is not None, f"{name} is not in /metrics"
    return float(found[1])


def refused(route: str, status: int) -> str:
    """Name of the metric that counts the refusals of a route."""
    return f'pawl_http_requests_total{{method="POST",route="{route}",status="{status}"}}'


UNREAD = 'pawl_http_requests_total{method="",route="unmatched",status="413"}'
"""A body whose length is announced is refused before anybody looks where it was to go."""


def post(path: str, **body: Any) -> Ask:
    async def ask(world: World, client: httpx.AsyncClient) -> httpx.Response:
        return await client.post(path, json=body)

    return ask


async def fill_the_encoder(world: World, client: httpx.AsyncClient) -> httpx.Response:
    """Several requests at once; the first one refused."""
    body = {"texts": ["card", "money"] * 50}
    answers = await asyncio.gather(*(client.post("/v1/predict", json=body) for _ in range(4)))
    assert any(answer.is_success for answer in answers)
    return next(answer for answer in answers if not answer.is_success)


async def wait_too_many(world: World, client: httpx.AsyncClient) -> httpx.Response:
    """One waits for version 2, another one wants to."""
    body = {"text": "card", "min_version": 2, "wait_ms": 30_000}
    waiting = asyncio.create_task(client.post("/v1/predict", json=body))

    async def is_waiting() -> bool:
        return await metric(client, "pawl_version_waiters") == 1

    await eventually(is_waiting)
    answer = await client.post("/v1/predict", json=body)
    await world.serve(2)
    assert (await waiting).json()["version"] == 2
    return answer


async def listen_too_many(world: World, client: httpx.AsyncClient) -> httpx.Response:
    await world.service.feed.listen(0)
    return await client.get("/v1/events")


ITEMS = [{"text": f"card {number}", "label": "card"} for number in range(3)]
LONG = "card " * 300
REFUSALS: dict[str, tuple[dict[str, int], Ask, int, str, float]] = {
    "max_texts": ({"max_texts": 2}, post("/v1/predict", texts=["a"] * 3), 422, refused("/v1/predict", 422), 1),
    "max_texts, feedback": ({"max_texts": 2}, post("/v1/feedback", items=ITEMS), 422, refused("/v1/feedback", 422), 1),
    "max_body_bytes": (
        {"max_body_bytes": 1024},
        post("/v1/predict", text=LONG),
        413,
        refused("/v1/predict", 413),
        1,
    ),
    "max_body_bytes, routed": (
        {"max_body_bytes": 1024},
        post("/v1/feedback", text=LONG, label="a"),
        413,
        UNREAD,
        1,
    ),
    "max_wait_ms": (
        {"max_wait_ms": 10},
        post("/v1/predict", text="a", min_version=1, wait_ms=11),
        422,
        refused("/v1/predict", 422),
        1,
    ),
    "max_queued": ({"max_queued": 2}, post("/v1/feedback", items=ITEMS), 429, "pawl_feedback_backlog_limit", 2),
    "predict_queue": ({"predict_queue": 1, "max_batch": 1}, fill_the_encoder, 429, "pawl_predict_queue_limit", 1),
    "predict_queue, waiters": ({"predict_queue": 1}, wait_too_many, 429, "pawl_version_waiters", 0),
    "max_listeners": ({"max_listeners": 1}, listen_too_many, 429, "pawl_event_listeners", 1),
}


@pytest.mark.parametrize("limit", REFUSALS)
async def test_beyond_a_limit_a_request_is_refused_and_a_metric_shows_it(tmp_path: Path, limit: str) -> None:
    settings, ask, status, name, value = REFUSALS[limit]
    world = World(tmp_path, **settings)
    async with world.client() as client:
        await world.serve(1)
        assert_problem(await ask(world, client), status)
        assert await metric(client, name) == value
        assert (await client.post("/v1/predict", json={"text": "card"})).is_success  # and it is over afterwards


async def test_what_waits_is_shown(tmp_path: Path) -> None:
    world = World(tmp_path)

    async def is_announced() -> bool:
        return await world.stream.length() == 1

    async with world.client() as client:
        await world.serve(1)
        assert (await client.post("/v1/feedback", json={"items": ITEMS})).is_success
        assert await metric(client, "pawl_feedback_backlog") == len(ITEMS)
        await eventually(is_announced)
        for empty in ("pawl_announcements", "pawl_predict_queue_texts", "pawl_version_waiters", "pawl_leased_versions"):
            assert await metric(client, empty) == 0
        await world.service.stream.refresh()
        assert await metric(client, "pawl_stream_entries") == 1
        assert await metric(client, "pawl_stream_entries_limit") == world.settings.stream_entries


@pytest.mark.parametrize("settings", [{"prediction_buffer": 3}, {"prediction_buffer_characters": 3 * len("card 0")}])
async def test_the_oldest_answers_leave_a_full_buffer(tmp_path: Path, settings: dict[str, int]) -> None:
    world = World(tmp_path, **settings)
    async with world.client() as client:
        await world.serve(1)
        world.switch_sql(on=False)
        answer = await client.post("/v1/predict", json={"texts": [f"card {number}" for number in range(5)]})
        assert await metric(client, "pawl_prediction_buffer") == 3
        assert await metric(client, "pawl_predictions_dropped_total") == 2
        world.switch_sql(on=True)
        named = [{"prediction_id": one["id"], "label": "card"} for one in answer.json()["predictions"]]
        assert [(await client.post("/v1/feedback", json=one)).status_code for one in named] == [422] * 2 + [202] * 3


async def test_the_oldest_predictions_and_events_expire(tmp_path: Path) -> None:
    world = World(tmp_path, prediction_retention_rows=3, event_retention_rows=2, prediction_retention_hours=1.0)
    async with world.client() as client:
        await world.serve(1)
        retention = Retention(world.predictions, world.ledger, world.settings, world.service.metrics)
        for number in range(5):
            await client.post("/v1/predict", json={"text": f"card {number}"})
            await world.ledger.append_event("test", {"number": number})
        await eventually(lambda: len(world.values("id", "predictions")) == 5)
        await retention.apply(datetime.now(UTC))
        assert world.values("text", "predictions") == ["card 2", "card 3", "card 4"]
        assert [one.payload["number"] for one in await world.ledger.events(0, 100)] == [3, 4]
        await retention.apply(datetime.now(UTC) + timedelta(hours=1.1))
        assert world.values("id", "predictions") == []
        assert await metric(client, 'pawl_expired_rows_total{table="predictions"}') == 5
        assert await metric(client, 'pawl_expired_rows_total{table="events"}') >= 3


class SetClock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.time = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.time


async def test_idempotency_keys_are_forgotten_after_their_time(database: AsyncEngine) -> None:
    clock = SetClock()
    samples = SqlSampleStore(database, clock, idempotency_hours=1.0)
    key, other = IdempotencyKey("key", "a" * 64), IdempotencyKey("key", "b" * 64)
    await samples.accept([NewSample("card 1", "card")], key)
    with pytest.raises(IdempotencyConflict):
        await samples.accept([NewSample("card 2", "card")], other)
    clock.time += timedelta(hours=1.1)
    [receipt] = await samples.accept([NewSample("card 2", "card")], other)
    assert receipt.is_new
    async with database.connect() as connection:
        assert await connection.scalar(select(func.count()).select_from(idempotency_keys)) == 1


async def test_the_stream_drops_its_oldest_entries(redis_url: str) -> None:
    stream = RedisFeedbackStream(redis_url, max_entries=100)
    ids = [f"fb_{number}" for number in range(400)]
    try:
        for one in ids:
            await stream.announce([one])
        assert 100 <= await stream.length() <= 200  # whole nodes of 100 entries go, not single ones
        kept = [one for entry in await stream.read("reader", 1000, 100) for one in entry.sample_ids]
    finally:
        await stream.close()
    assert kept == ids[-len(kept) :]


async def test_announcements_beyond_the_limit_are_left_to_the_sweep_and_counted() -> None:
    metrics = AppMetrics()
    settings = Settings(announcements=10)
    Announcer(LocalStream(), settings, metrics).announce([f"fb_{number}" for number in range(13)])
    assert metrics.registry.get_sample_value("pawl_announcements_limit") == 10
    assert metrics.registry.get_sample_value("pawl_announcements") == 10
    assert metrics.registry.get_sample_value("pawl_announce_failures_total") == 3


def test_the_panel_holds_gate_items_at_most() -> None:
    task = learner(evaluation_limit=20)
    known = teach(task, [*examples("a", 30), *examples("b", 30)], [])
    for number in range(3):
        known = teach(task, examples("c", 10, seed=number), known)
        assert len(task.evaluation) == 20


async def test_the_oldest_versions_lose_their_files(tmp_path: Path) -> None:
    world = World(tmp_path, keep_versions=2)
    ports = LearnerPorts(world.samples, world.ledger, world.labels, world.artefacts, world.stream, SystemClock())
    publisher = assemble(world.settings, ports).publisher
    async with world.client() as client:
        for number in range(1, 6):
            await world.serve(number)
        assert await publisher.retire_old() == [1, 2, 3]
        assert world.artefacts.kept() == [4, 5]
        assert_problem(await client.post("/v1/versions/1/promote", json={"reason": "a test of it"}), 409)
        listed = (await client.get("/v1/versions")).json()["items"]
        assert [one["artefacts_kept"] for one in listed] == [True, True, False, False, False]
        assert await metric(client, "pawl_live_version") == 5

"""Servers that stand still (SIGSTOP): nothing of them answers, and no connection breaks."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import make_url

from app.main import create_app
from pawl.settings import Settings
from tests.app.http.paused import Outside, outside, serving, settings_for
from tests.app.world import assert_problem
from tests.polling import eventually

ITEM = {"text": "a text", "label": "card"}
CALLS: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/v1/predict"): {"json": {"text": "a text"}},
    ("POST", "/v1/feedback"): {"json": ITEM, "headers": {"idempotency-key": "paused"}},
    ("POST", "/v1/labels"): {"json": {"name": "new", "reason": "a test"}},
    ("PATCH", "/v1/labels/{label}"): {"json": {"name": "newer", "reason": "a test"}},
    ("DELETE", "/v1/labels/{label}"): {"params": {"reason": "a test"}},
    ("PATCH", "/v1/labels"): {"params": {"label": "card"}, "json": {"name": "newer", "reason": "a test"}},
    ("DELETE", "/v1/labels"): {"params": {"label": "card", "reason": "a test"}},
    ("POST", "/v1/encoder"): {"json": {"encoder": "all-MiniLM-L6-v2"}},
    ("POST", "/v1/quarantine/{id}"): {"json": {"action": "release", "reason": "a test", "by": "me"}},
    ("POST", "/v1/dead-letters/{id}"): {"json": {"action": "redrive", "reason": "a test"}},
    ("POST", "/v1/versions/{number}/promote"): {"json": {"reason": "a test"}},
    ("POST", "/v1/consolidations"): {},
}
"""What a route needs to get as far as the servers. A new one that changes something has to be here."""
NEEDS_NONE = {"/livez", "/readyz", "/metrics", "/v1/predict", "/v1/model"}
SLOW_FUNCTION = """CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$"""
SLOW_COMMIT = """CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON samples DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION slow()"""
GENEROUS = 60.0
"""Seconds for what is promised in two: the machine may be busy. A call without a deadline never comes back."""
WHERE = re.compile(r"\b(localhost|127\.0\.0\.1|::1|port|host|socket)\b|\.sock|:\d{2,5}\b|/tmp", re.IGNORECASE)


@pytest.fixture(scope="module")
def servers(short_folder: Path) -> Iterator[Outside]:
    with outside(short_folder / "paused") as found:
        yield found


async def routes_of(client: httpx.AsyncClient) -> dict[tuple[str, str], dict[str, Any]]:
    """Every route that is described, and how to call it; but the stream of events, which does not end."""
    paths = (await client.get("/openapi.json")).json()["paths"]
    found = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert len(found) > 15
    return {key: CALLS.get(key, {}) for key in found if key[1] != "/v1/events"}


async def call(client: httpx.AsyncClient, method: str, path: str, given: dict[str, Any]) -> httpx.Response:
    """One request to a route's template, each parameter filled in."""
    async with asyncio.timeout(GENEROUS):
        return await client.request(method, re.sub(r"\{\w+\}", "1", path), **given)


async def test_every_call_to_a_server_has_a_deadline(tmp_path: Path, servers: Outside) -> None:
    """On PostgreSQL: whatever route is asked comes back, 503 where it needs the database, and predictions go on."""
    async with serving(settings_for(tmp_path, servers, server_seconds=0.5)) as (client, service):
        routes = await routes_of(client)
        servers.postgres.pause()
        try:
            answers = await asyncio.gather(*(call(client, *key, given) for key, given in routes.items()))
        finally:
            servers.postgres.resume()
        for (method, path), answer in zip(routes, answers, strict=True):
            if path in NEEDS_NONE:
                assert answer.status_code == 200, f"{method} {path}: {answer.text}"
                if path == "/v1/model":
                    assert answer.json()["age_seconds"] >= 0.5, "from memory"
            else:
                assert answer.status_code == 503, f"{method} {path} did not get as far as the database: {answer.text}"
                assert not WHERE.search(assert_problem(answer, 503)["detail"])

        async def is_accepted() -> bool:
            return (await client.post("/v1/feedback", **CALLS["POST", "/v1/feedback"])).status_code == 202

        await eventually(is_accepted, GENEROUS, every=0.1)
        again = (await client.post("/v1/feedback", **CALLS["POST", "/v1/feedback"])).json()
        assert again == (await client.post("/v1/feedback", **CALLS["POST", "/v1/feedback"])).json()
        assert (await service.ports.samples.backlog()).length == 1


async def test_feedback_whose_commit_went_through_unheard_is_safe_to_send_again(
    tmp_path: Path, servers: Outside
) -> None:
    settings = settings_for(tmp_path, servers, server_seconds=1.0)
    async with serving(settings) as (client, service):
        database = make_url(settings.sql_url).database or ""
        for statement in (SLOW_FUNCTION, SLOW_COMMIT):
            servers.postgres.execute(statement, database)
        given: dict[str, Any] = {"json": ITEM, "headers": {"idempotency-key": "unheard"}}
        assert_problem(await client.post("/v1/feedback", **given), 503)

        async def is_stored() -> bool:
            return (await service.ports.samples.backlog()).length == 1

        await eventually(is_stored, GENEROUS, every=0.1)
        answer = await client.post("/v1/feedback", **given)
        assert answer.status_code == 202
        [stored] = await service.ports.samples.queued(10)
        assert answer.json()["items"] == [{"id": stored.id, "state": "queued"}]


async def test_a_paused_redis_keeps_nobody_waiting(tmp_path: Path, servers: Outside) -> None:
    """No route needs it: what was accepted is in SQL, and the learner's sweep finds it there."""
    async with serving(settings_for(tmp_path, servers, server_seconds=5.0)) as (client, service):
        routes = await routes_of(client)
        servers.redis.pause()
        try:
            answers = await asyncio.gather(*(call(client, *key, given) for key, given in routes.items()))
            for (method, path), answer in zip(routes, answers, strict=True):
                assert answer.status_code < 500, f"{method} {path}: {answer.text}"
            assert (await client.post("/v1/feedback", json=ITEM)).status_code == 202
            await eventually(lambda: service.metrics.announce_failures._value.get() > 0, GENEROUS)
            await eventually(lambda: service.stream.problem == "it does not answer in time", GENEROUS)
            told = (await client.get("/v1/model")).json()
            assert (told["transport"], told["transport_problem"]) == ("redis", "it does not answer in time")
        finally:
            servers.redis.resume()
        announced = await service.ports.stream.length()
        assert (await client.post("/v1/feedback", json={"text": "after the pause", "label": "card"})).status_code == 202

        async def is_announced() -> bool:
            return await service.ports.stream.length() > announced

        await eventually(is_announced, GENEROUS, every=0.05)


async def test_a_locked_sqlite_file_is_a_paused_server(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, poll_seconds=0.05, server_seconds=0.5)
    async with serving(settings) as (client, _):
        with sqlite3.connect(tmp_path / "pawl.db", isolation_level=None) as other:
            other.execute("BEGIN EXCLUSIVE")
            requests = [client.post("/v1/feedback", json={"text": f"text {n}", "label": "card"}) for n in range(4)]
            async with asyncio.timeout(GENEROUS):
                answers = await asyncio.gather(*requests)
            for answer in answers:
                detail = assert_problem(answer, 503)["detail"]
                assert "locked" in detail or "answer in time" in detail
            assert (await client.post("/v1/predict", json={"text": "a"})).status_code == 200
            other.execute("ROLLBACK")
        other.close()
        assert (await client.post("/v1/feedback", json=ITEM)).status_code == 202


async def test_event_streams_go_on_after_a_pause(tmp_path: Path, servers: Outside) -> None:
    async with (
        serving(settings_for(tmp_path, servers, server_seconds=0.5)) as (client, service),
    ):
        listener = await service.feed.listen(0)
        chunks = listener.chunks
        assert (await anext(chunks)).startswith(b"retry")
        while b"version_promoted" not in await anext(chunks):
            pass
        servers.postgres.pause()
        waiting = asyncio.ensure_future(anext(chunks))
        try:
            assert_problem(await call(client, "GET", "/v1/events", {}), 503)
            assert not waiting.done()
        finally:
            servers.postgres.resume()
        await service.ports.ledger.append_event("after_the_pause", {})
        async with asyncio.timeout(GENEROUS):
            assert b"after_the_pause" in await waiting
        listener.close()


async def test_it_starts_and_stops_while_postgresql_stands_still(tmp_path: Path, servers: Outside) -> None:
    settings = settings_for(tmp_path, servers, server_seconds=0.5)
    async with serving(settings):
        pass  # there is a version to load now
    servers.postgres.pause()
    try:
        app = create_app(settings)
        async with (
            asyncio.timeout(GENEROUS),
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://pawl") as client,
        ):

            async def says_why() -> bool:
                answer = await client.get("/readyz")
                return "does not answer in time" in assert_problem(answer, 503)["detail"]

            await eventually(says_why, GENEROUS, every=0.05)
            assert (await client.get("/livez")).status_code == 200
            assert (await client.get("/metrics")).status_code == 200
    finally:
        servers.postgres.resume()
    app = create_app(settings)
    async with app.router.lifespan_context(app):
        await eventually(lambda: app.state.service.engine.number == 1)

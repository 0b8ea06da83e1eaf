"""Everything through PgBouncer in transaction mode: each transaction may meet another of the server's connections."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx

from tests.intents import items, labelled
from tests.pgbouncer import PgBouncerServer
from tests.polling import eventually
from tests.processes import LENIENT, PATIENCE, Installer, until_ready, until_settled
from tests.servers import PostgresServer


async def test_app_and_learner_work_through_pgbouncer_in_transaction_mode(
    install: Installer, pgbouncer: PgBouncerServer, postgres_server: PostgresServer, redis_url: str
) -> None:
    database = postgres_server.create_database()
    pawl = install.empty(database_url=pgbouncer.url(database), redis_url=redis_url, **LENIENT)
    async with pawl.stores():
        pass  # migrated through it as well
    app, worker = pawl.start_app(), pawl.start_worker()
    async with pawl.client() as client:

        async def ok(method: str, path: str, **given: Any) -> dict[str, Any]:
            answer = await client.request(method, path, **given)
            assert answer.is_success, answer.text
            found: dict[str, Any] = answer.json()
            return found

        await ok("POST", "/v1/feedback", json=items(labelled(60)))
        first = await until_ready(client)

        named = (await ok("POST", "/v1/predict", json={"text": "one more question"}))["predictions"][0]["id"]
        texts = [{"text": f"a text of its own {n}", "label": "own"} for n in range(30)] + [
            {"prediction_id": named, "label": "own"}
        ]
        sent = await asyncio.gather(*(ok("POST", "/v1/feedback", json=one) for one in texts))
        for one in sent:
            assert (await until_settled(client, one["items"][0]["id"]))["state"] == "learned"

        change = await ok("PATCH", "/v1/labels/own", json={"name": "renamed", "reason": "a test"})

        async def is_applied() -> bool:
            found = await ok("GET", f"/v1/labels/changes/{change['id']}")
            assert found["state"] != "failed", found
            return bool(found["state"] == "applied")

        await eventually(is_applied, PATIENCE, every=0.05)
        labels = {one["name"]: one for one in (await ok("GET", "/v1/labels"))["items"]}
        assert labels["own"]["state"] == "renamed"

        back = await ok("POST", f"/v1/versions/{first}/promote", json={"reason": "a test"})

        async def is_served() -> bool:
            return bool((await ok("GET", "/readyz"))["version"] >= back["number"])

        await eventually(is_served, PATIENCE, every=0.05)
        async with client.stream("GET", "/v1/events", params={"after": 0}) as events:
            assert events.status_code == httpx.codes.OK
    assert app.is_running
    assert worker.is_running
    assert "Traceback" not in app.output() + worker.output()

"""The app behind a real uvicorn, on SQLite, with and without what it depends on."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI
from pydantic import SecretStr

from app.main import create_app
from app.server import make_server
from pawl.ports import Floats
from pawl.settings import Settings
from tests.app.world import World, assert_problem
from tests.polling import eventually


@asynccontextmanager
async def listening(settings: Settings, app: FastAPI) -> AsyncIterator[tuple[httpx.AsyncClient, uvicorn.Server]]:
    """A server for the app on a free port, a client for it; the server has stopped at the end."""
    server = make_server(settings, app)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            await eventually(lambda: server.started or serving.done())
            async with httpx.AsyncClient(base_url=url, timeout=30) as client:
                yield client, server
        finally:
            server.should_exit = True
            await asyncio.wait_for(serving, 30)


async def test_without_redis_it_starts_and_feedback_is_durable(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    async with listening(settings, create_app(settings)) as (client, _):
        assert (await client.get("/livez")).json() == {"status": "alive", "version": None}
        accepted = await client.post("/v1/feedback", json={"text": "a", "label": "b"})
        assert accepted.status_code == 202
        location = accepted.headers["location"]
    async with listening(settings, create_app(settings)) as (client, _):
        assert (await client.get(location)).json()["state"] == "queued"


async def test_without_a_database_it_starts_and_says_so(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    settings = Settings(home=tmp_path, database_url=SecretStr(f"postgresql+psycopg://u:hidden@127.0.0.1:{port}/pawl"))
    async with listening(settings, create_app(settings)) as (client, _):
        assert (await client.get("/livez")).status_code == 200
        for response in (
            await client.get("/readyz"),
            await client.post("/v1/predict", json={"text": "a"}),
            await client.post("/v1/feedback", json={"text": "a", "label": "b"}),
            await client.get("/v1/versions"),
        ):
            assert_problem(response, 503)
            assert "hidden" not in response.text
            assert "nothing listens there" in response.text
            assert not re.search(f"127.0.0.1|{port}|PostgreSQL|psycopg", response.text), "of no client's concern"


async def test_event_streams_end_and_requests_in_flight_finish_when_it_stops(tmp_path: Path) -> None:
    world = World(tmp_path, poll_seconds=0.05)
    async with listening(world.settings, world.app) as (client, server):
        await world.serve(1)
        seen: list[str] = []

        async def follow() -> None:
            async with client.stream("GET", "/v1/events", headers={"last-event-id": "0"}) as response:
                assert response.headers["content-type"].startswith("text/event-stream")
                seen.extend([line async for line in response.aiter_lines() if line.startswith("event:")])

        following = asyncio.create_task(follow())
        await eventually(lambda: world.service.feed._listeners == 1)
        await world.promote(world.write_version(2))
        await eventually(lambda: world.service.engine.number == 2)
        flying = asyncio.create_task(
            client.post("/v1/predict", json={"texts": [f"where is card {n}" for n in range(200)]})
        )
        await eventually(lambda: world.service.batcher._waiting)
        server.should_exit = True
        assert (await flying).status_code == 200
        await following
        assert seen.count("event: version_promoted") == 2
        assert world.service.feed._listeners == 0


async def test_a_listener_that_goes_away_gives_its_place_back(tmp_path: Path) -> None:
    world = World(tmp_path, max_listeners=1)
    async with listening(world.settings, world.app) as (client, _):
        for _ in range(3):
            async with client.stream("GET", "/v1/events") as response:
                assert response.status_code == 200
                assert_problem(await client.get("/v1/events"), 429)
            await eventually(lambda: world.service.feed._listeners == 0)


@pytest.mark.parametrize("body", [{"text": "a", "min_version": 2, "wait_ms": 20_000}, {"text": "held"}])
async def test_a_client_that_goes_away_is_not_computed_for(tmp_path: Path, body: dict[str, Any]) -> None:
    world = World(tmp_path)
    async with listening(world.settings, world.app) as (client, _):
        await world.serve(1)
        live = world.service.engine.live
        assert live is not None
        held, computed = threading.Event(), list[str]()
        embed = live.classifier.embed

        def slowly(texts: Sequence[str]) -> Floats:
            computed.extend(texts)
            assert held.wait(20)
            return embed(texts)

        live.classifier.embed = slowly  # type: ignore[method-assign]  # holds the thread
        enough = [f"text {number}" for number in range(16)]  # to keep both threads
        first = asyncio.create_task(client.post("/v1/predict", json={"texts": enough}))
        await eventually(lambda: sorted(computed) == sorted(enough))
        asked = asyncio.create_task(client.post("/v1/predict", json=body))
        await eventually(lambda: world.service.batcher._waiting or world.service.engine._waiters)
        asked.cancel()  # closes the connection
        gone = world.service.metrics.requests.labels("/v1/predict", "POST", 499)
        await eventually(lambda: gone._value.get() == 1)
        assert world.service.engine._waiters == 0
        held.set()
        assert (await first).status_code == 200
        await eventually(lambda: world.service.batcher._waiting == 0)
        assert (await client.post("/v1/predict", json={"text": "next"})).status_code == 200
    assert computed[len(enough) :] == ["next"]


async def test_a_body_above_the_limit_over_a_real_connection(tmp_path: Path) -> None:
    world = World(tmp_path, max_body_bytes=1024)

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield b" " * 1024

    async with listening(world.settings, world.app) as (client, _):
        for content in (pieces(), b" " * 1025):
            response = await client.post("/v1/predict", content=content, headers={"content-type": "application/json"})
            assert_problem(response, 413)
        assert (await client.get("/livez")).status_code == 200


def test_the_app_does_not_import_torch() -> None:
    code = "import app.server, sys; print([m for m in ('torch', 'transformers', 'worker') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGINT])
def test_serve_stops_on_a_signal_and_logs_json(tmp_path: Path, end: signal.Signals) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment: dict[str, Any] = {**os.environ, "PAWL_HOME": str(tmp_path), "PAWL_PORT": str(port)}
    code = "from pawl.settings import load_settings; from app.server import serve; serve(load_settings())"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            asyncio.run(eventually(lambda: _answers(process, port), 60))
            process.send_signal(end)
            _, logs = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode in {0, -end, 130}
    lines = [line for line in logs.splitlines() if line]
    assert all(line.startswith("{") for line in lines), logs


def _answers(process: subprocess.Popen[str], port: int) -> bool:
    assert process.poll() is None
    try:
        return httpx.get(f"http://127.0.0.1:{port}/livez").status_code == 200
    except httpx.TransportError:
        return False

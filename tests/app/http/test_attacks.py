"""Whatever comes in a path, a query, a header or a body: never a 500, on the databases that people run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from app.main import create_app
from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.db.versions import SqlVersionLedger
from pawl.domain.versions import LedgerChange
from tests.app.world import World
from tests.polling import eventually
from tests.servers import PostgresServer

ODD = [
    "", ".", "..", "%", "%00", "%ed%a0%80", "%ff%fe", "%2e%2e%2f", "%0d%0aset-cookie:a=b", "a" * 5000, "-1", "0", "1e3",
    "NaN", "99999999999999999999999999", "9223372036854775807", "2147483648", "null", "true", "'; drop table samples",
    quote("é́"), quote("\u202e"), quote("𝕏" * 300), "x%20y", "%7f", "[]", "{}", "*", "\\",  # noqa: RUF001 - such letters are the attack
]  # fmt: skip
HEADERS = [b"", b"\x80\xff", b"a" * 9000, b"-1", b"1.5", b"99999999999999999999", b"\xed\xa0\x80", b"null", b"a,b"]


class Target:
    """The app on a real database, with version 1 live, and its description."""

    def __init__(self, runner: asyncio.Runner, client: httpx.AsyncClient) -> None:
        self._runner = runner
        self._client = client
        described = self.send("GET", "/openapi.json").json()
        self.parameters = {
            (method.upper(), path): [one["name"] for one in call.get("parameters", ()) if one["in"] == "query"]
            for path, methods in described["paths"].items()
            for method, call in methods.items()
            if path != "/metrics"
        }
        self.calls = [call for call in self.parameters if call[1] != "/v1/events"]  # that one does not end

    def send(self, method: str, url: str, **more: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            async with asyncio.timeout(60):
                return await self._client.request(method, url, **more)

        return self._runner.run(call())

    def check(self, method: str, url: str, **more: Any) -> None:
        response = self.send(method, url, **more)
        assert response.status_code < 500, (method, url[:200], more, response.text[:500])
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json", (method, url[:200])
            assert method == "HEAD" or response.json()["detail"]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def target(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer
) -> Iterator[Target]:
    home = tmp_path_factory.mktemp("attacked")
    overrides: dict[str, Any] = {"redis_url": SecretStr("none"), "max_wait_ms": 5}
    if request.param == "postgresql":
        overrides["database_url"] = SecretStr(postgres_server.url(postgres_server.create_database()))
    with asyncio.Runner() as runner:
        application = runner.run(_installed(home, overrides))
        context = application.router.lifespan_context(application)
        runner.run(context.__aenter__())
        service = application.state.service
        runner.run(eventually(lambda: service.engine.number == 1))
        transport = httpx.ASGITransport(application)
        client = httpx.AsyncClient(transport=transport, base_url="http://pawl")
        yield Target(runner, client)
        runner.run(client.aclose())
        runner.run(context.__aexit__(None, None, None))


async def _installed(home: Path, overrides: dict[str, Any]) -> FastAPI:
    world = World(home, **overrides)
    engine = connect(world.settings.sql_url)
    await upgrade(engine)
    await SqlVersionLedger(engine).promote(world.write_version(1), LedgerChange())
    await engine.dispose()
    return create_app(world.settings)


def test_no_path_is_a_500(target: Target) -> None:
    for method, path in target.calls:
        for odd in ODD if "{" in path else ODD[:3]:
            head, _, rest = path.partition("{")
            url = head + odd + rest.partition("}")[2] if rest else f"{path}/{odd}"
            target.check(method, url, content=b"{}")


def test_no_parameter_is_a_500(target: Target) -> None:
    for (method, path), names in target.parameters.items():
        url = path.replace("{number}", "1").replace("{label}", "card").replace("{id}", "fb_1")
        for name in [*names, "unknown"]:
            for odd in ODD:
                target.check("HEAD" if path == "/v1/events" else method, f"{url}?{name}={odd}&{name}=1")
                target.check("HEAD" if path == "/v1/events" else method, f"{url}?{name}={odd}")


def test_no_header_is_a_500(target: Target) -> None:
    body = json.dumps({"text": "a", "label": "b", "create_task": True}).encode()
    for value in HEADERS:
        for name in (b"idempotency-key", b"content-type", b"content-encoding", b"x-request-id", b"accept", b"expect"):
            for path in ("/v1/feedback", "/v1/predict"):
                target.check("POST", path, content=body, headers=[(name, value)])
        target.check("HEAD", "/v1/events", headers=[(b"last-event-id", value)])
        target.check("GET", "/livez", headers=[(b"x-request-id", value)])


names = st.sampled_from(["text", "texts", "label", "items", "task", "top_k", "weight", "min_version", "wait_ms"])
names |= st.sampled_from(["prediction_id", "reason", "name", "merge_into", "action", "by", "source", "create_task"])
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8)
)
texts = st.sampled_from(["a", "b\u0000c", "\ud800", "\u200b", "e\u0301", ".", "..", " ", "pr_" + "0" * 32])
values = st.recursive(
    scalars | texts, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4)
)
bodies = st.dictionaries(names, values, max_size=5) | values


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_body_is_a_500(target: Target, data: st.DataObject) -> None:
    method, path = data.draw(st.sampled_from([call for call in target.calls if call[0] in {"POST", "PATCH", "DELETE"}]))
    value = data.draw(bodies)
    url = path.replace("{number}", "1").replace("{label}", "card").replace("{id}", "fb_1")
    target.check(method, url, content=json.dumps(value).encode(), headers={"content-type": "application/json"})


@pytest.mark.parametrize(
    "body",
    [
        b'{"text": "a", "text": "b", "label": "x", "label": "y"}',
        b'{"text": "a", "label": "x", "weight": 1e400}',
        b'{"text": "a", "label": "x", "weight": -0.0}',
        b'{"text": "a", "top_k": 1' + b"0" * 4400 + b"}",
        b'{"text": "a", "min_version": 99999999999999999999999, "wait_ms": 1}',
        b'{"text": "\\ud83d", "label": "\\ude00"}',
        b'{"a": ' * 5000 + b"1" + b"}" * 5000,
        b"[" * 200_000,
        b'{"texts": [' + b'"a",' * 300 + b'"a"]}',
        b"\x00",
        b"\xef\xbb\xbf{}",
        b'{"text": "a\\u0000", "label": "b"}',
    ],
)
def test_no_odd_json_is_a_500(target: Target, body: bytes) -> None:
    for method, path in target.calls:
        if method in {"POST", "PATCH"}:
            url = path.replace("{number}", "1").replace("{label}", "card").replace("{id}", "fb_1")
            target.check(method, url, content=body, headers={"content-type": "application/json"})

"""Nothing a client sends is a 5xx, and nothing refused is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.app.world import World, assert_problem

JSON = {"content-type": "application/json"}
POSTS = ("/v1/predict", "/v1/feedback", "/v1/versions/1/promote", "/v1/consolidations", "/v1/labels")


@pytest.fixture
async def served(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as client:
        await world.serve(1)
        yield client
    assert not world.values("id", "samples")
    assert not world.values("id", "predictions")
    assert world.values("number", "versions") == [1]


def nested(depth: int) -> bytes:
    return b'{"text": ' + b"[" * depth + b"]" * depth + b"}"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"not json", 400),
        (b'{"text": "a"', 400),
        (b'{"text": "a"} x', 400),
        (b"\xff\xfe", 400),
        ('{"text": "a"}'.encode("utf-16"), 400),
        (b"\xef\xbb\xbf{}", 400),
        (b'{"text": "\xed\xa0\x80"}', 400),
        (b'{"top_k": ' + b"9" * 5000 + b"}", 400),
        (nested(100_000), 400),
        (nested(500), 422),
        (b"[]", 422),
        (b"null", 422),
        (b'"a"', 422),
        (b"NaN", 422),
        (b"{}", 422),
    ],
)
@pytest.mark.parametrize("path", POSTS[:3])
async def test_bodies_that_are_not_json_or_not_objects(
    served: httpx.AsyncClient, path: str, body: bytes, status: int
) -> None:
    assert_problem(await served.post(path, content=body, headers=JSON), status)


BAD_TEXTS = ['""', '" \\t\\n\\u2003"', '"a\\u0000b"', '"\\ud800"', '"a \\udfff b"', "1", "true", "null", '["a"]', "{}"]


@pytest.mark.parametrize("text", BAD_TEXTS)
async def test_bad_texts_are_named(served: httpx.AsyncClient, text: str) -> None:
    bodies = [
        ("/v1/predict", f'{{"text": {text}}}', "#/text"),
        ("/v1/predict", f'{{"texts": ["fine", {text}]}}', "#/texts/1"),
        ("/v1/feedback", f'{{"text": {text}, "label": "b"}}', "#/text"),
        ("/v1/feedback", f'{{"items": [{{"text": {text}, "label": "b"}}]}}', "#/items/0/text"),
    ]
    for path, body, pointer in bodies:
        answer = assert_problem(await served.post(path, content=body, headers=JSON), 422)
        if text != "null":
            assert answer["errors"][0]["pointer"] == pointer


@pytest.mark.parametrize(
    "body",
    [
        {"text": "a", "unknown": 1},
        {"text": "a", "\ud800": 1},
        {"text": "a", "texts": ["a"]},
        {"texts": []},
        {"texts": "a"},
        {"text": "a", "top_k": 0},
        {"text": "a", "top_k": True},
        {"text": "a", "top_k": 1.5},
        {"text": "a", "task": "../x"},
        {"text": "a", "task": "default\n"},
        {"text": "a", "task": "unknown"},
        {"text": "a", "min_version": 0},
        {"text": "a", "min_version": 1, "wait_ms": -1},
        {"text": "a", "min_version": 1, "wait_ms": 10**30},
    ],
)
async def test_bad_prediction_requests(served: httpx.AsyncClient, body: dict[str, Any]) -> None:
    assert_problem(await served.post("/v1/predict", content=json.dumps(body), headers=JSON), 422)


@pytest.mark.parametrize(
    "body",
    [
        '{"label": "b"}',
        '{"text": "a"}',
        '{"text": "a", "prediction_id": "pr_1", "label": "b"}',
        '{"prediction_id": "pr_1", "label": "b"}',
        '{"prediction_id": "pr_1", "label": "b", "task": "default"}',
        '{"prediction_id": "\\u0000", "label": "b"}',
        '{"text": "a", "label": "  "}',
        '{"text": "a", "label": "\\u200b\\n"}',
        '{"text": "a", "label": "\\ud800"}',
        '{"text": "a", "label": 7}',
        '{"text": "a", "label": "' + "b" * 201 + '"}',
        '{"text": "a", "label": "b", "weight": NaN}',
        '{"text": "a", "label": "b", "weight": Infinity}',
        '{"text": "a", "label": "b", "weight": 1e999}',
        '{"text": "a", "label": "b", "task": "Ä"}',
        '{"text": "a", "label": "b", "golden": true}',
        '{"items": []}',
        '{"items": {}}',
        '{"items": [{"text": "a", "label": "b"}], "text": "a"}',
        '{"items": [{"text": "a", "label": "b"}, {"text": "a"}]}',
    ],
)
async def test_bad_feedback(served: httpx.AsyncClient, body: str) -> None:
    assert_problem(await served.post("/v1/feedback", content=body, headers=JSON), 422)


async def test_too_many_texts_name_the_limit(served: httpx.AsyncClient) -> None:
    for count in (257, 10_000, 20_000):
        for path, body, field in (
            ("/v1/predict", {"texts": ["a"] * count}, "#/texts"),
            ("/v1/feedback", {"items": [{"text": "a", "label": "b"}] * count}, "#/items"),
        ):
            answer = assert_problem(await served.post(path, json=body), 422)
            assert answer["errors"] == [{"detail": "at most 256 in one request", "pointer": field}]


async def test_many_faults_are_one_small_answer(served: httpx.AsyncClient) -> None:
    for body in ({"texts": [1] * 9000}, {f"k{n}": n for n in range(20_000)}):
        response = await served.post("/v1/predict", json=body)
        assert_problem(response, 422)
        assert len(response.content) < 20_000


async def test_a_megabyte_of_text_is_answered_and_above_the_limit_is_413(tmp_path: Path) -> None:
    world = World(tmp_path, max_body_bytes=1_100_000)
    async with world.client() as client:
        await world.serve(1)
        assert (await client.post("/v1/predict", json={"text": "card " * 200_000})).status_code == 200
        assert_problem(await client.post("/v1/predict", json={"text": "card " * 220_000}), 413)

        async def pieces() -> AsyncIterator[bytes]:
            for _ in range(12):
                yield b" " * 100_000

        for path in POSTS[:3]:
            response = await client.post(path, content=pieces(), headers=JSON)
            assert "1100000 bytes" in assert_problem(response, 413)["detail"]


async def test_only_json_bodies(served: httpx.AsyncClient) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml+", "json"):
        answer = await served.post(
            "/v1/feedback", content=b'{"text": "a", "label": "b"}', headers={"content-type": kind}
        )
        assert "application/json" in assert_problem(answer, 415)["detail"]


async def test_unknown_paths_and_wrong_methods(served: httpx.AsyncClient) -> None:
    for path in ("/", "/v1", "/v1/predict/", "/v2/predict"):
        assert_problem(await served.get(path), 404)
    for path in ("/v1/predict", "/v1/feedback", "/v1/versions/1/promote", "/v1/consolidations"):
        assert_problem(await served.get(path), 405)
    response = await served.put("/v1/predict", json={})
    assert_problem(response, 405)
    assert response.headers["allow"] == "POST"
    assert_problem(await served.post("/livez"), 405)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/versions/0",
        "/v1/versions/x",
        "/v1/versions/99999999999999999999",
        "/v1/versions?limit=0",
        "/v1/versions?limit=501",
        "/v1/versions?before=1e3",
        "/v1/events?after=-1",
        "/v1/events?after=99999999999999999999",
    ],
)
async def test_bad_parameters_are_named(served: httpx.AsyncClient, path: str) -> None:
    assert assert_problem(await served.get(path), 422)["errors"][0]["parameter"] in {
        "number",
        "limit",
        "before",
        "after",
    }


async def test_a_fault_of_ours_is_a_problem_without_details(world: World) -> None:
    async with world.client() as client:

        async def broken() -> None:
            raise RuntimeError("secret")

        world.app.add_api_route("/broken", broken)
        response = await client.get("/broken", headers={"x-request-id": "r1"})
        assert "secret" not in response.text
        assert_problem(response, 500)
        assert response.headers["x-request-id"] == "r1"


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=()), max_size=8)
)
keys = st.sampled_from(
    ["text", "texts", "label", "items", "task", "top_k", "weight", "min_version", "wait_ms", "prediction_id", "reason"]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys | st.text(max_size=3), inner, max_size=4)
)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, World, httpx.AsyncClient]]:
    with asyncio.Runner() as runner:

        async def make() -> World:
            return World(tmp_path_factory.mktemp("fuzz"), max_wait_ms=5)

        world = runner.run(make())
        context = world.client()
        client = runner.run(context.__aenter__())
        runner.run(world.serve(1))
        yield runner, world, client
        runner.run(context.__aexit__(None, None, None))


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(POSTS), values, st.binary(max_size=20) | st.none())
def test_no_body_is_ever_a_5xx_and_nothing_refused_is_stored(
    fuzzed: tuple[asyncio.Runner, World, httpx.AsyncClient], path: str, value: object, raw: bytes | None
) -> None:
    runner, world, client = fuzzed
    stored = world.values("id", "samples"), world.values("number", "versions")
    body = raw if raw is not None else json.dumps(value).encode()
    response = runner.run(client.post(path, content=body, headers=JSON))
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert_problem(response, response.status_code)
        assert (world.values("id", "samples"), world.values("number", "versions")) == stored

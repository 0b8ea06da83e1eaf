"""Every route of the app, whichever way it is called, is inside the same wrappers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from prometheus_client.parser import text_string_to_metric_families
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import capture_logs

from app.errors import Problem
from app.http import wrappers
from app.main import create_app
from pawl.settings import Settings
from tests.app.world import World, assert_problem

VALUES = {"{number}": "1", "{label}": "card", "{id}": "fb_1", "{task}": "default", "{name}": "favicon.png"}
Call = tuple[str, str]


@pytest.fixture(autouse=True)
def logged() -> Iterator[list[Any]]:
    """What is logged, unformatted: a traceback for each route takes a while to draw."""
    with capture_logs() as entries:
        yield entries


def routes_of(routes: Sequence[BaseRoute]) -> Iterator[Route]:
    """All routes, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from routes_of(included.routes)
        else:
            assert isinstance(route, Route), f"{route} is no route that these tests know how to call"
            yield route


def calls_of(app: FastAPI) -> list[Call]:
    """Each method of each route, with a path that it takes."""
    calls = []
    for route in routes_of(app.routes):
        path = route.path
        for name, value in VALUES.items():
            path = path.replace(name, value)
        calls += [(method, f"{path}?label=card") for method in sorted(route.methods or ())]
    return calls


async def assert_all_are(world: World, status: int, *, more: str = "", body: bytes = b"{}", **headers: str) -> None:
    """Calls all routes: each answers this problem with an id of its own and is counted, once."""
    calls = calls_of(world.app)
    assert len(calls) > 30
    assert ("POST", "/v1/predict?label=card") in calls
    async with world.client() as client:
        ids = set()
        for method, path in calls:
            response = await client.request(method, path + more, content=body, headers=headers)
            assert response.status_code == status, (method, path, response.text)
            if method != "HEAD":
                assert_problem(response, status)
            ids.add(response.headers["x-request-id"])
        assert len(ids) == len(calls)
        assert counted(world) == {status: len(calls)}


def counted(world: World) -> dict[int, int]:
    """Answered requests by status, as the metric tells."""
    counts: dict[int, int] = {}
    for family in text_string_to_metric_families(world.service.exposition().decode()):
        for sample in family.samples:
            if sample.name == "pawl_http_requests_total":
                status = int(sample.labels["status"])
                counts[status] = counts.get(status, 0) + int(sample.value)
    return counts


def with_wrapper(monkeypatch: pytest.MonkeyPatch, home: Path, error: Exception) -> World:
    """An app with one more wrapper, which lets nothing through."""

    def refuse(_app: ASGIApp) -> ASGIApp:
        async def call(scope: Scope, receive: Receive, send: Send) -> None:
            raise error

        return call

    listed = wrappers.wrappers
    monkeypatch.setattr(wrappers, "wrappers", lambda *given: (*listed(*given), refuse))
    return World(home)


async def test_a_wrapper_that_refuses_is_on_every_route(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    await assert_all_are(with_wrapper(monkeypatch, tmp_path, Problem(401, "Who is there?")), 401)


async def test_a_wrapper_that_fails_is_a_problem_on_every_route(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    await assert_all_are(with_wrapper(monkeypatch, tmp_path, RuntimeError("injected")), 500)


async def test_a_body_that_is_too_large_is_refused_on_every_route(tmp_path: Path) -> None:
    await assert_all_are(World(tmp_path, max_body_bytes=1024), 413, body=b" " * 1025)


async def test_a_nul_in_the_query_is_refused_on_every_route(world: World) -> None:
    await assert_all_are(world, 422, more="&task=a%00b")


@pytest.mark.parametrize(("error", "status"), [(RuntimeError("injected"), 500), (Problem(418, "injected"), 418)])
async def test_an_endpoint_that_fails_is_a_problem_on_every_route(
    world: World, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    async def fail(request: Request) -> Response:
        raise error

    async def fail_as_app(scope: Scope, receive: Receive, send: Send) -> None:
        raise error

    for route in routes_of(world.app.routes):
        if isinstance(route, APIRoute):
            monkeypatch.setattr(route, "endpoint", fail)
        else:
            monkeypatch.setattr(route, "app", fail_as_app)
    await assert_all_are(world, status)


@pytest.mark.parametrize("error", [None, RuntimeError("injected")])
async def test_stores_that_fail_are_problems_on_every_route(world: World, error: Exception | None) -> None:
    async with world.client() as client:
        await world.serve(1)
        world.switch_sql(on=False, error=error)
        before = sum(counted(world).values())
        calls = calls_of(world.app)
        failed = 0
        for method, path in calls:
            response = await client.request(method, path, content=b'{"text": "a", "label": "b"}')
            assert response.headers["x-request-id"]
            if method != "HEAD" and response.status_code >= 400:
                assert_problem(response, response.status_code)
            failed += response.status_code == (503 if error is None else 500)
        assert failed > 8
        assert sum(counted(world).values()) - before == len(calls)


def test_the_frameworks_own_wrappers_are_not_used(tmp_path: Path) -> None:
    """They would be around all routes but the one that goes past the framework."""
    app = create_app(Settings(home=tmp_path))
    assert app.user_middleware == []
    with pytest.raises(RuntimeError, match="Cannot add middleware"):
        app.add_middleware(object)  # type: ignore[arg-type]
    assert app.router.dependencies == []
    for route in routes_of(app.routes):
        if isinstance(route, APIRoute):
            assert (route.path, route.dependencies, route.dependant.dependencies) == (route.path, [], [])

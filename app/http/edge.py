"""The outermost layer of every request, in plain ASGI: request id, body limit, how long it may wait for servers,
metrics, and the last catch.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping

import structlog
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem, internal_problem, response_to
from app.http.methods import HeadAnswered, only_headers
from app.http.request_body import RequestBody
from app.metrics import AppMetrics
from pawl.deadlines import budget
from pawl.domain.errors import PawlError

log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Edge:
    """Wraps the app. Bodies are limited and, where an answer comes first, drained (`request_body.py`). HEAD is GET
    without the body. All calls to database and Redis that a request makes may take `server_seconds` together
    (`pawl/deadlines.py`).

    What `direct` has for a (method, path) is called from here, past the framework's routing and exit stacks: they cost
    more than all that a prediction needs besides its encoder (`docs/log.md`). Its route stays in the app, which
    describes it and answers other methods.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        metrics: AppMetrics,
        max_body_bytes: int,
        direct: Mapping[tuple[str, str], Endpoint],
        server_seconds: float,
    ) -> None:
        self._app = app
        self._direct = dict(direct)
        self._metrics = metrics
        self._limit = max_body_bytes
        self._server_seconds = server_seconds
        self._run = secrets.token_hex(6)
        self._count = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; passes everything that is not HTTP on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _sane_id(scope) or f"{self._run}{next(self._count):012x}".encode()
        method = scope["method"]
        endpoint = self._direct.get((method, scope["path"]))
        body = RequestBody(scope, receive, self._limit)
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await body.answer(message, send)

        answer: Send = send_named
        if method == "HEAD":
            scope, answer = {**scope, "method": "GET"}, only_headers(send_named)
        try:
            body.check_length()
            _check_query(scope)
            with budget(self._server_seconds):  # here, so that no route can be without it
                await self._pass_on(endpoint, scope, body.receive, answer)
        except HeadAnswered:
            pass
        except Problem as problem:  # raised before there is a route
            await problem.response()(scope, receive, send_named)
        except ClientDisconnect:
            log.debug("client_gone", path=scope["path"], request_id=request_id.decode())
        except Exception:
            log.exception("request_failed", path=scope["path"], request_id=request_id.decode())
            if status:
                raise
            await internal_problem().response()(scope, receive, send_named)
        finally:
            # the route's template, not the path: paths come from clients and would make labels without end
            route = scope["path"] if endpoint else getattr(scope.get("route"), "path", "unmatched")
            self._observe(route, method, status, time.perf_counter() - started)

    async def _pass_on(self, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send) -> None:
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        response = await _answer(endpoint, Request(scope, receive))
        await response(scope, receive, send)

    def _observe(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, method if route != "unmatched" else "", status or 499).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


async def _answer(endpoint: Endpoint, request: Request) -> Response:
    try:
        return await endpoint(request)
    except (PawlError, Problem) as error:
        return response_to(request.url.path, error)


def _check_query(scope: Scope) -> None:
    """No parameter has a NUL in it, and PostgreSQL cannot even be asked for one."""
    if b"%00" in scope["query_string"]:
        raise Problem(422, "A parameter of the request holds a NUL character (%00).", slug="invalid-input")


def _sane_id(scope: Scope) -> bytes:
    """The client's request id, where it is one; else nothing."""
    return next((v for name, v in scope["headers"] if name == b"x-request-id" and _SANE_ID.fullmatch(v)), b"")

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

from app.core.deadlines import budget
from app.core.domain.errors import PawlError
from app.core.metrics import AppMetrics
from app.errors import Problem, internal_problem, response_to

log = structlog.get_logger(__name__)

Endpoint = Callable[[Request], Awaitable[Response]]
_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")


class Edge:
    """Wraps the app. A body above `max_body_bytes` is a 413, also where it comes in chunks without a length. All calls
    to database and Redis that a request makes may take `server_seconds` together (`core/deadlines.py`).

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
        request_id, length = _read_headers(scope)
        request_id = request_id or f"{self._run}{next(self._count):012x}".encode()
        endpoint = self._direct.get((scope["method"], scope["path"]))
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", [])
                message["headers"] = [*message["headers"], (b"x-request-id", request_id)]
            await send(message)

        try:
            if length is not None and length > self._limit:
                await self._too_large().response()(scope, receive, send_named)
            else:
                with budget(self._server_seconds):  # here, so that no route can be without it
                    await self._pass_on(endpoint, scope, receive, send_named)
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
            self._observe(route, scope["method"], status, time.perf_counter() - started)

    async def _pass_on(self, endpoint: Endpoint | None, scope: Scope, receive: Receive, send: Send) -> None:
        if endpoint is None:
            await self._app(scope, self._limited(receive), send)
            return
        response = await _answer(endpoint, Request(scope, self._limited(receive)))
        await response(scope, receive, send)

    def _limited(self, receive: Receive) -> Receive:
        taken = 0

        async def receive_limited() -> Message:
            nonlocal taken
            message = await receive()
            if message["type"] == "http.request":
                taken += len(message.get("body", b""))
                if taken > self._limit:
                    raise self._too_large()
            return message

        return receive_limited

    def _too_large(self) -> Problem:
        return Problem(413, f"The body is larger than {self._limit} bytes.", slug="body-too-large")

    def _observe(self, route: str, method: str, status: int, seconds: float) -> None:
        self._metrics.requests.labels(route, method if route != "unmatched" else "", status or 499).inc()
        self._metrics.request_seconds.labels(route).observe(seconds)


async def _answer(endpoint: Endpoint, request: Request) -> Response:
    try:
        return await endpoint(request)
    except (PawlError, Problem) as error:
        return response_to(request.url.path, error)


def _read_headers(scope: Scope) -> tuple[bytes, int | None]:
    """The client's request id where it is sane, else nothing; and the declared length of the body."""
    request_id, length = b"", None
    for name, value in scope["headers"]:
        if name == b"x-request-id" and _SANE_ID.fullmatch(value):
            request_id = value
        elif name == b"content-length" and value.isdigit():
            length = int(value[:19])
    return request_id, length

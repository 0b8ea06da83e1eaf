"""What every request passes on its way in, and every answer on its way out: one list for all routes.

`wrappers` is the only place to add a duty that all routes share: an API key, a limit, a trace. The framework's own
means (`add_middleware`, dependencies, exception handlers) are not used, because a prediction does not pass the
framework (`app/http/edge.py`): what was added there would not protect the main route.
"""

from __future__ import annotations

import itertools
import re
import secrets
import time
from collections.abc import Callable
from functools import partial

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem, problem_of
from app.http.methods import answer_head, not_routed
from app.http.request_body import drain_body, limit_body
from app.metrics import AppMetrics
from pawl.deadlines import budget
from pawl.settings import Settings

log = structlog.get_logger(__name__)

Wrapper = Callable[[ASGIApp], ASGIApp]

_SANE_ID = re.compile(rb"[A-Za-z0-9._:/+=@-]{1,128}")
_CLIENT_GONE = 499  # as nginx counts a request whose client closed the connection before there was an answer


def wrappers(settings: Settings, metrics: AppMetrics) -> tuple[Wrapper, ...]:
    """All of them, outermost first.

    A wrapper above `answer_problems` sees every answer, also a refusal (metrics, traces). One below it may refuse a
    request: it raises `Problem` (API keys).
    """
    return (
        partial(count_requests, metrics=metrics),
        drain_body,  # outside `answer_problems`: most early answers are its refusals
        name_requests,  # outside `answer_problems`, whose log lines name the request
        answer_head,  # outside `answer_problems`: a refusal of HEAD has no body either
        answer_problems,
        partial(limit_body, most_bytes=settings.max_body_bytes),
        refuse_nul,
        partial(bound_waiting, seconds=settings.server_seconds),
    )


def wrap(app: ASGIApp, settings: Settings, metrics: AppMetrics) -> ASGIApp:
    """The app inside all wrappers."""
    for wrapper in reversed(wrappers(settings, metrics)):
        app = wrapper(app)
    return app


def count_requests(app: ASGIApp, metrics: AppMetrics) -> ASGIApp:
    """Counts every request by route, method and status, and observes how long it took."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        started, status = time.perf_counter(), _CLIENT_GONE

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await app(scope, receive, note_status)
        finally:
            # The route's template, not the path: clients choose paths, and each would become a label of the metric.
            route = getattr(scope.get("route"), "path", None)
            method = scope["method"] if route else ""
            metrics.requests.labels(route or "unmatched", method, status).inc()
            metrics.request_seconds.labels(route or "unmatched").observe(time.perf_counter() - started)

    return call


def name_requests(app: ASGIApp) -> ASGIApp:
    """Puts a request id into the scope and into the answer: the client's own where it sent one that is safe to log."""
    # The random part tells processes and restarts apart, the number the requests of one.
    process, numbers = secrets.token_hex(6), itertools.count(1)

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        for name, value in scope["headers"]:
            if name == b"x-request-id" and _SANE_ID.fullmatch(value):
                request_id = value
                break
        else:
            request_id = f"{process}{next(numbers):012x}".encode()
        scope["request_id"] = request_id

        async def add_header(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id)]
            await send(message)

        await app(scope, receive, add_header)

    return call


def answer_problems(app: ASGIApp) -> ASGIApp:
    """Answers whatever is raised with a problem (RFC 9457). What is our own fault is logged, and not shown."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        has_begun = False

        async def note_begin(message: Message) -> None:
            nonlocal has_begun
            has_begun = True
            await send(message)

        try:
            await app(scope, receive, note_begin)
        except ClientDisconnect:  # nobody reads an answer; none is sent, so the count says 499
            log.debug("client_gone", path=scope["path"], request_id=scope["request_id"].decode())
        except Exception as error:
            problem = not_routed(error, scope) if isinstance(error, HTTPException) else problem_of(error)
            if problem.status == 500 or has_begun:
                log.exception("request_failed", path=scope["path"], request_id=scope["request_id"].decode())
            if has_begun:  # a second answer cannot be sent: the server has to close the connection
                raise
            await problem.response()(scope, receive, send)

    return call


def refuse_nul(app: ASGIApp) -> ASGIApp:
    """Refuses a NUL in the query: no parameter has one in it, and PostgreSQL cannot even be asked for one."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if b"%00" in scope["query_string"]:
            raise Problem(422, "A parameter of the request holds a NUL character (%00).", slug="invalid-input")
        await app(scope, receive, send)

    return call


def bound_waiting(app: ASGIApp, seconds: float) -> ASGIApp:
    """Bounds how long all calls to database and Redis that a request makes may take together."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        with budget(seconds):
            await app(scope, receive, send)

    return call

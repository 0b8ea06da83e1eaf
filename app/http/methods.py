"""Methods and paths: HEAD is answered wherever GET is, and what no route takes is a 404 or a 405."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import BaseRoute, Match
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """The methods of all routes of a path together, for `Allow`: each route alone knows only its own."""
    taken = [method for method in _METHODS if _is_taken(routes, method, path)]
    return ["GET", "HEAD", *taken[1:]] if "GET" in taken else taken  # GET is the first of `_METHODS`


def _is_taken(routes: Sequence[BaseRoute], method: str, path: str) -> bool:
    scope: Scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


def not_routed(error: HTTPException, scope: Scope) -> Problem:
    """The problem for an error of the router: the path or its method does not exist."""
    path = Request(scope).url.path
    details = {
        404: f"There is nothing at {path}; see /docs.",
        405: f"{scope['method']} is not allowed on {path}.",
    }
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 405:  # the router names the methods of one route, and a path has several
        headers["allow"] = ", ".join(allowed_methods(scope["app"].routes, path))
    return Problem(error.status_code, details.get(error.status_code, str(error.detail)), headers=headers)


class _HeadAnswered(BaseException):
    """The headers have been sent, and nothing else is to come. Not an `Exception`: nothing may take it for an error."""


def answer_head(app: ASGIApp) -> ASGIApp:
    """Answers HEAD as GET and ends after the headers, also where the body would never end."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            await app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}  # a copy: the server still has to know that it was HEAD

        async def send_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
                return
            await send({"type": "http.response.body", "body": b""})
            raise _HeadAnswered

        try:
            await app(as_get, receive, send_headers)
        except _HeadAnswered:
            pass
        finally:
            # The router wrote the route into the copy; the metrics read it from the scope that they were given.
            scope["route"] = as_get.get("route")

    return call

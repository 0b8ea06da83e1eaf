"""Which methods a path takes. HEAD is taken wherever GET is."""

from __future__ import annotations

from collections.abc import Sequence

from starlette.routing import BaseRoute, Match
from starlette.types import Message, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def allowed_methods(routes: Sequence[BaseRoute], path: str) -> list[str]:
    """Of all routes of a path together, for `Allow`: each alone knows only its own."""
    found = [method for method in _METHODS if _is_taken(routes, method, path)]
    return ["GET", "HEAD", *found[1:]] if "GET" in found else found


def _is_taken(routes: Sequence[BaseRoute], method: str, path: str) -> bool:
    scope: Scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return any(route.matches(scope)[0] is Match.FULL for route in routes)


class HeadAnswered(Exception):
    """The headers are out, and nothing else is to come; not an error."""


def only_headers(send: Send) -> Send:
    """Ends the answer after its headers, also one whose body would never end. Raises `HeadAnswered` then."""

    async def send_headers(message: Message) -> None:
        await send(message if message["type"] == "http.response.start" else {"type": "http.response.body", "body": b""})
        if message["type"] == "http.response.body":
            raise HeadAnswered

    return send_headers

"""Answers bytes that cannot be parsed as HTTP with a problem (RFC 9457), as every other fault is answered."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from app.errors import Problem

Allowed = Callable[[str], Sequence[str]]


class Protocol(HttpToolsProtocol):
    """uvicorn's, but for requests that its parser refuses. `allowed` gives the methods that a path takes."""

    allowed: Allowed = staticmethod(lambda _path: ())
    _data = b""

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol.data_received`."""
        # The parser refuses a method before it has read the path, so `_problem` reads the path from these bytes itself.
        self._data = data
        super().data_received(data)
        self._data = b""  # else every open connection would hold what it read last

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's signature
        """Called while the parser's error is handled. A method it does not know is a 405, not a 400."""
        problem = self._problem(sys.exception())
        response = problem.response()
        headers = [*self.server_state.default_headers, *response.raw_headers, (b"connection", b"close")]
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in headers)
        self.transport.write(STATUS_LINE[problem.status] + lines + b"\r\n" + bytes(response.body))
        self.transport.close()

    def _problem(self, error: BaseException | None) -> Problem:
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            # Only of what came in one piece; a request line in several is not put together, and is a 400 then.
            words = self._data.split(b"\r\n", 1)[0].decode("ascii", "replace").split(" ")
            path = words[1].partition("?")[0] if len(words) == 3 else ""
            if allowed := self.allowed(path):
                return Problem(405, "There is no such method.", headers={"allow": ", ".join(allowed)})
        return Problem(400, "This is not a request in HTTP.", slug="not-http")


def protocol_for(allowed: Allowed) -> type[Protocol]:
    """The class that uvicorn is to make its connections of."""
    return type("PawlProtocol", (Protocol,), {"allowed": staticmethod(allowed)})

"""The body of one request: its limit, and what to do with the part of it that nobody read."""

from __future__ import annotations

import asyncio

from starlette.types import Message, Receive, Scope, Send

from app.errors import Problem

_DRAINED_BYTES = 64 * 2**20
_IDLE_SECONDS = 2.0
_DRAIN_SECONDS = 30.0


class RequestBody:
    """Counts what is received. A body above `limit` is a 413, also where it comes in chunks without a length.

    An answer may be ready before the body was read to its end: it is too large, or the path does not exist. Most
    clients send all of it before they read, and see nothing but a broken connection where it is closed under them. So
    what is still on its way is read and dropped once the answer is out, within bounds, and then the connection ends.
    """

    def __init__(self, scope: Scope, receive: Receive, limit: int) -> None:
        headers = dict(scope["headers"])
        length = headers.get(b"content-length", b"")
        self._receive = receive
        self._limit = limit
        self._declared = int(length[:19]) if length.isdigit() else 0
        self._waits_for_leave = headers.get(b"expect", b"").lower() == b"100-continue"
        self._taken = 0
        self.is_unread = self._declared > 0 or b"transfer-encoding" in headers
        """Whether there is more than was received."""

    def check_length(self) -> None:
        """Raises `Problem` 413 where the declared length is above the limit."""
        if self._declared > self._limit:
            raise self._too_large()

    async def receive(self) -> Message:
        """The ASGI callable. Raises `Problem` 413."""
        message = await self._take()
        if self._taken > self._limit:
            raise self._too_large()
        return message

    async def _take(self) -> Message:
        self._waits_for_leave = False
        message = await self._receive()
        self.is_unread = message["type"] == "http.request" and message.get("more_body", False)
        self._taken += len(message.get("body", b""))
        return message

    async def answer(self, message: Message, send: Send) -> None:
        """Passes one message of the answer on; the last one of an early answer after what is still coming."""
        if not self.is_unread:
            await send(message)
        elif message["type"] == "http.response.start":
            # Where leave to send was never given, nothing is on its way; the connection is of no use after it either.
            await send({**message, "headers": [*message.get("headers", []), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await send(message)
        else:
            await send({**message, "more_body": True})
            await self._drain()
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self.is_unread and not self._waits_for_leave and self._taken < _DRAINED_BYTES:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self._take()
        except TimeoutError:
            pass

    def _too_large(self) -> Problem:
        return Problem(413, f"The body is larger than {self._limit} bytes.", slug="body-too-large")

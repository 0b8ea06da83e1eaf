"""The body of a request: its limit, and what to do with the part of it that nobody read."""

from __future__ import annotations

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import Problem

# Of a body that nobody wants: so much is read, so long a pause and so long in all is waited for. Without the last one a
# client that sends a byte a second would hold the connection for ever.
_DRAINED_BYTES = 64 * 2**20
_IDLE_SECONDS = 2.0
_DRAIN_SECONDS = 30.0


def limit_body(app: ASGIApp, most_bytes: int) -> ASGIApp:
    """Refuses a body above the limit with `Problem` 413, also where it comes in chunks without a length."""

    def check(size: int) -> None:
        if size > most_bytes:
            raise Problem(413, f"The body is larger than {most_bytes} bytes.", slug="body-too-large")

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        declared = _declared_length(scope)
        if declared is not None:  # the server takes no more than that
            check(declared)
            await app(scope, receive, send)
            return
        received = 0

        async def count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            # While it comes, so that no more than the limit and one chunk is ever in memory.
            check(received)
            return message

        await app(scope, count, send)

    return call


def drain_body(app: ASGIApp) -> ASGIApp:
    """Reads and drops, within bounds, what is left of a body whose answer came early, and ends the connection.

    An answer may be ready before the body was read to its end: it is too large, or the path does not exist. Most
    clients send all of it before they read, and see nothing but a broken connection where it is closed under them.
    """

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(scope, receive, send)
        await app(scope, body.receive, body.answer)

    return call


def _declared_length(scope: Scope) -> int | None:
    for name, value in scope["headers"]:
        if name == b"content-length":
            # 19 digits are beyond any limit; all of them could be more than `int` takes (4,300), which would be a 500.
            return int(value[:19]) if value.isdigit() else None
    return None


class _Body:
    """Knows how much of a request's body has been received, and whether there is more."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope["headers"])
        self._receive = receive
        self._send = send
        # Such a client sends nothing before "100 Continue", which the server sends when `receive` is first called.
        self._waits_for_leave = headers.get(b"expect", b"").lower() == b"100-continue"
        self._received = 0
        self._is_unread = headers.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in headers

    async def receive(self) -> Message:
        """The ASGI callable."""
        self._waits_for_leave = False
        message = await self._receive()
        self._is_unread = message["type"] == "http.request" and message.get("more_body", False)
        self._received += len(message.get("body", b""))
        return message

    async def answer(self, message: Message) -> None:
        """Passes one message of the answer on; the last one of an early answer after what is still coming."""
        if not self._is_unread:
            await self._send(message)
        elif message["type"] == "http.response.start":
            # Where leave to send was never given, nothing is on its way; the connection is of no use after it either.
            await self._send({**message, "headers": [*message.get("headers", []), (b"connection", b"close")]})
        elif message.get("more_body", False):
            await self._send(message)
        else:
            # All of the answer is out now, but not its end: with `connection: close` the server closes the connection
            # at the end, and a client that still sends would see a broken connection instead of the answer.
            await self._send({**message, "more_body": True})
            await self._drain()
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _drain(self) -> None:
        try:
            async with asyncio.timeout(_DRAIN_SECONDS):
                while self._is_unread and not self._waits_for_leave and self._received < _DRAINED_BYTES:
                    async with asyncio.timeout(_IDLE_SECONDS):
                        await self.receive()
        except TimeoutError:
            pass

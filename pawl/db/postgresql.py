"""The driver's connection to PostgreSQL, with a limit to every wait for the server."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from psycopg import AsyncConnection, OperationalError, waiting
from psycopg.abc import PQGen

from pawl.deadlines import answer_seconds, no_answer

RV = TypeVar("RV")


def connector(seconds: float) -> Callable[..., Awaitable[AsyncConnection[Any]]]:
    """Returns the function that opens connections. Each wait of them, the opening included, ends after `seconds`."""

    # A class for each limit: psycopg makes the object itself, inside `connect`, and waits before anyone can set it.
    class Bounded(_BoundedConnection):
        limit = seconds

    async def open_connection(*args: Any, **settings: Any) -> AsyncConnection[Any]:
        wanted = answer_seconds(seconds)
        try:
            async with asyncio.timeout(wanted):
                return await Bounded.connect(*args, **settings)
        except TimeoutError:
            raise OperationalError(no_answer(wanted)) from None

    return open_connection


class _BoundedConnection(AsyncConnection[Any]):
    """Everything psycopg asks the server for passes through `wait`.

    A wait that ends early, by the limit or because its caller was cancelled, closes the connection: the answer may
    still come, and must not be taken for the next one's. psycopg itself would first ask the server to cancel and wait
    for that up to ten seconds, which a server that stands still does not answer either.
    """

    limit: float

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:  # noqa: ASYNC109 - psycopg's
        """See `AsyncConnection.wait`."""
        wanted = answer_seconds(self.limit)
        try:
            async with asyncio.timeout(wanted):
                return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=timeout)
        # Closed at once and without a word to the server: `finish` does not wait.
        except asyncio.CancelledError:
            self.pgconn.finish()
            raise
        except TimeoutError:
            self.pgconn.finish()
            raise OperationalError(no_answer(wanted)) from None

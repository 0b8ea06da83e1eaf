"""Stops the work of a request whose client has closed the connection."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import ClientDisconnect
from starlette.types import Receive

_PATIENCE_SECONDS = 0.05  # most answers are there by then, and watching takes a task


@contextmanager
def ended_with_client(receive: Receive) -> Iterator[None]:
    """Cancels what the block waits for when the client closes its connection, and then raises `ClientDisconnect`.

    The request's body must have been read: whatever `receive` brings next is dropped. Inside an async function.
    """
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if task is None:
        raise RuntimeError("there is no task to cancel")
    watcher: asyncio.Task[None] | None = None
    has_left = False

    async def watch() -> None:
        nonlocal has_left
        while (await receive())["type"] != "http.disconnect":
            pass
        has_left = True
        # Cancelled and not only marked: the block waits for a future (the batcher's answer) that nothing else would
        # end.
        task.cancel()

    def begin() -> None:
        nonlocal watcher
        watcher = loop.create_task(watch())

    # A timer instead of a task that sleeps: a request that is answered in time makes no task at all.
    timer = loop.call_later(_PATIENCE_SECONDS, begin)
    try:
        yield
    except asyncio.CancelledError:
        if has_left and not task.uncancel():  # else somebody else cancels it as well, and means it
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watcher is not None:
            watcher.cancel()

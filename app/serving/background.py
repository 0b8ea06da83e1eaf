"""Background tasks that live as long as the app."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from app.metrics import AppMetrics
from pawl.backoff import Backoff
from pawl.domain.errors import StoreUnavailable

log = structlog.get_logger(__name__)


class Background:
    """Starts loops, restarts one that ends in an unexpected error, and stops all of them."""

    def __init__(self, metrics: AppMetrics) -> None:
        self._metrics = metrics
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        """Runs `loop` until it returns or `stop` is called."""
        self._tasks.append(asyncio.create_task(self._keep(name, loop), name=name))

    def repeat(self, name: str, look: Callable[[], Awaitable[object]], seconds: float) -> None:
        """Calls `look` again and again, with a pause between; what it knows stays while a store is away."""

        async def loop() -> None:
            while True:
                try:
                    await look()
                except StoreUnavailable as error:
                    log.debug("store_unavailable", task=name, problem=str(error))
                await asyncio.sleep(seconds)

        self.start(name, loop)

    async def stop(self) -> None:
        """Cancels all loops and waits until they have ended."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._tasks.clear()

    async def _keep(self, name: str, loop: Callable[[], Awaitable[None]]) -> None:
        # Never reset, as nobody tells when a loop is well again: one that fails now and then waits longer each time, at
        # most the 30 s of the default.
        backoff = Backoff()
        while True:
            try:
                await loop()
            except Exception:
                self._metrics.background_failures.labels(name).inc()
                log.exception("background_task_failed", task=name)
                await asyncio.sleep(backoff.next_pause())
            else:
                return

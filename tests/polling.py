"""Waiting for something that happens by itself, with a deadline."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any


async def eventually(condition: Callable[[], Any], seconds: float = 30.0, every: float = 0.005) -> Any:
    """Asks (sync or async) until the answer is true, and returns it, with pauses of `every` seconds.

    Raises `TimeoutError`.
    """
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            if inspect.isawaitable(result):
                result = await result
            if result:
                return result
            await asyncio.sleep(every)

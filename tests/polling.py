"""Waiting for something that happens by itself, with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")


async def eventually(condition: Callable[[], T | Awaitable[T]], seconds: float = 30.0) -> T:
    """Asks until the answer is true; raises `TimeoutError`."""
    async with asyncio.timeout(seconds):
        while True:
            result = condition()
            value = await result if isinstance(result, Awaitable) else result
            if value:
                return value
            await asyncio.sleep(0.005)

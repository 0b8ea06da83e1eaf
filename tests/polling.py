"""Waiting for something that happens by itself, with a deadline; looking at processes that may end meanwhile."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import psutil


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


def has_ended(process: psutil.Process) -> bool:
    """Whether a process ended; a zombie that nobody has reaped yet counts as ended."""
    try:
        return not process.is_running() or bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # between the two questions
        return True


def command_line(process: psutil.Process) -> list[str]:
    """The arguments of a process, none where it ended."""
    try:
        return list(process.cmdline())
    except psutil.NoSuchProcess:  # a zombie is one, too
        return []

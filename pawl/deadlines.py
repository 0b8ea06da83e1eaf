"""How long anything here waits for a server (the database, Redis): never without a limit.

Two limits, both kept where calls are made (`pawl/db/engine.py`, `pawl/streams/redis_stream.py`), so that no caller can
pass them by. Each single answer has one, the adapter's own unless `each_answer_within` says otherwise. What a client
waits for has one more, for all its calls together: the edge opens a budget for each request, which every call uses up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_NO_ANSWER = "no answer within"


@dataclass(slots=True)
class _Budget:
    seconds: float
    left: float
    until: float | None = None
    """When what is left will be used up by the call that waits now."""


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)
_each: ContextVar[float | None] = ContextVar("each", default=None)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """All calls to servers in the block together may wait so long. What else the block does is not counted."""
    token = _budget.set(_Budget(seconds, seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def each_answer_within(seconds: float) -> Iterator[None]:
    """Each answer of a server in the block may take so long, whatever the adapter's own limit is."""
    token = _each.set(seconds)
    try:
        yield
    finally:
        _each.reset(token)


def answer_seconds(default: float) -> float:
    """How long to wait for the next answer, where an adapter waits `default` seconds unless told otherwise."""
    return _each.get() or default


def seconds_left(default: float) -> float:
    """How long to wait for the next answer at most, with what is left of a budget."""
    limit, of_all = answer_seconds(default), _budget.get()
    if of_all is None:
        return limit
    left = of_all.left if of_all.until is None else of_all.until - asyncio.get_running_loop().time()
    return max(0.0, min(limit, left))


@asynccontextmanager
async def within_budget() -> AsyncIterator[None]:
    """A call to a server: counted, and ended by `TimeoutError` where the budget is used up, if there is one."""
    of_all = _budget.get()
    if of_all is None:
        yield
        return
    clock = asyncio.get_running_loop().time
    began = clock()
    of_all.until = began + of_all.left
    try:
        async with asyncio.timeout(max(0.0, of_all.left)):
            yield
    except TimeoutError:
        raise TimeoutError(no_answer(of_all.seconds)) from None
    finally:
        of_all.left -= clock() - began
        of_all.until = None


def no_answer(seconds: float) -> str:
    """What is said of a server that does not answer."""
    return f"{_NO_ANSWER} {seconds:g} s"


def is_no_answer(error: BaseException) -> bool:
    """Whether an error is a wait that ended early."""
    return isinstance(error, TimeoutError) or _NO_ANSWER in str(error)

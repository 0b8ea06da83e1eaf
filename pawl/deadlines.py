"""Limits how long Pawl waits for a server (the database, Redis).

There are two limits. The adapters apply both where they make calls (`pawl/db/engine.py`,
`pawl/streams/redis_stream.py`), so that no caller can forget them.

    answer    Each answer of a server has a limit: the adapter's, or that of `each_answer_within`.
    budget    All calls for one HTTP request together have another: the edge opens a `budget`, and each call uses it up.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

_NO_ANSWER = "no answer within"


# Changed in place: tasks that a request starts get a copy of its context, and have to use up the same budget.
@dataclass(slots=True)
class _Budget:
    seconds: float
    left: float
    until: float | None = None
    """When the call that waits now will have used up what is left; in the loop's time."""


_budget: ContextVar[_Budget | None] = ContextVar("budget", default=None)
_each: ContextVar[float | None] = ContextVar("each", default=None)


@contextmanager
def budget(seconds: float) -> Iterator[None]:
    """Lets all calls to servers in the block wait so long together. Other work in the block is not counted."""
    token = _budget.set(_Budget(seconds, seconds))
    try:
        yield
    finally:
        _budget.reset(token)


@contextmanager
def each_answer_within(seconds: float) -> Iterator[None]:
    """Lets each answer of a server in the block take so long, instead of the adapter's limit."""
    token = _each.set(seconds)
    try:
        yield
    finally:
        _each.reset(token)


def answer_seconds(default: float) -> float:
    """Returns how long to wait for the next answer; `default` is the adapter's limit."""
    return _each.get() or default


def seconds_left(default: float) -> float:
    """Returns how long to wait for the next answer, at most what is left of the budget."""
    limit, of_all = answer_seconds(default), _budget.get()
    if of_all is None:
        return limit
    left = of_all.left if of_all.until is None else of_all.until - asyncio.get_running_loop().time()
    return max(0.0, min(limit, left))


@asynccontextmanager
async def within_budget() -> AsyncIterator[None]:
    """Counts a call to a server against the budget, if there is one; raises `TimeoutError` where it is used up."""
    of_all = _budget.get()
    if of_all is None:
        yield
        return
    clock = asyncio.get_running_loop().time
    began = clock()
    # For `seconds_left`, which is asked in the middle of the call (SQLite's busy timeout).
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
    """Returns the words for a server that does not answer."""
    return f"{_NO_ANSWER} {seconds:g} s"


def is_no_answer(error: BaseException) -> bool:
    """Whether an error is a wait for an answer that reached its limit."""
    return isinstance(error, TimeoutError) or _NO_ANSWER in str(error)

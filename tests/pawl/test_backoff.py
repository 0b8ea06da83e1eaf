"""Pauses grow while tries fail, stay bounded, and begin anew after a success."""

from __future__ import annotations

import asyncio
import time

from pawl.backoff import Backoff, pause_unless


def test_pauses_double_up_to_the_longest() -> None:
    backoff = Backoff(first=0.5, longest=3.0)
    assert backoff.pause == 0.0
    assert [backoff.next_pause() for _ in range(4)] == [0.5, 1.0, 2.0, 3.0]
    assert backoff.failures == 4
    backoff.reset()
    assert backoff.next_pause() == 0.5
    assert Backoff(rest=0.05).pause == 0.05


def test_failures_without_end_do_not_overflow() -> None:
    backoff = Backoff(failures=10**6)
    assert backoff.next_pause() == backoff.longest


async def test_a_pause_ends_early_when_the_event_comes() -> None:
    ending, began = asyncio.Event(), time.monotonic()
    await pause_unless(ending, 0.01)
    asyncio.get_running_loop().call_later(0.01, ending.set)
    await pause_unless(ending, 60.0)
    assert time.monotonic() - began < 30.0

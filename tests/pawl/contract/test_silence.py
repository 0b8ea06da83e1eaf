"""A server that answers nobody is asked by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from pawl.db.silence import Silence


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("pawl.db.silence.time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def wait(
    silence: Silence,
    clock: list[float],
    seconds: float,
    error: BaseException | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> str:
    """One transaction that takes so long; how it ended."""
    before = clock[0]
    try:
        with silence.noticed():
            clock[0] += seconds
            meanwhile()
            if error is not None:
                raise error
    except TimeoutError:
        return "waited" if clock[0] > before else "told at once"
    except (ValueError, asyncio.CancelledError) as ended:
        return repr(ended)
    return "answered"


def test_who_is_not_answered_asks_alone_until_there_is_an_answer(clock: list[float]) -> None:
    server, others = Silence(2.0), list[str]()

    def others_ask() -> None:
        others.extend(wait(server, clock, 0.0) for _ in range(3))

    assert wait(server, clock, 0.1, meanwhile=others_ask) == "answered"
    assert wait(server, clock, 2.0, TimeoutError()) == "waited"
    assert wait(server, clock, 2.0, TimeoutError(), others_ask) == "waited"
    assert wait(server, clock, 0.1, ValueError(), others_ask) == "ValueError()"
    assert wait(server, clock, 0.1, meanwhile=others_ask) == "answered", "an error of the caller is an answer, too"
    assert others == ["answered"] * 3 + ["told at once"] * 6 + ["answered"] * 3


def test_one_that_waits_for_a_lock_silences_nobody(clock: list[float]) -> None:
    server, others = Silence(2.0), list[str]()

    def another_asks() -> None:
        others.append(wait(server, clock, 0.1))

    assert wait(server, clock, 2.5, TimeoutError(), another_asks) == "waited"
    assert wait(server, clock, 0.1, meanwhile=another_asks) == "answered"
    assert others == ["answered"] * 2


@pytest.mark.parametrize(("seconds", "error"), [(0.1, TimeoutError()), (2.0, asyncio.CancelledError())])
def test_one_that_gave_up_soon_or_was_cancelled_says_nothing(
    clock: list[float], seconds: float, error: BaseException
) -> None:
    server, others = Silence(2.0), list[str]()
    wait(server, clock, seconds, error)
    wait(server, clock, 0.1, meanwhile=lambda: others.append(wait(server, clock, 0.1)))
    assert others == ["answered"]

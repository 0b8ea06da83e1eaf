"""The faster encoder is found though the machine's speed changes; what is not sure is marked."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from pawl.classifier.encoders.choice import comparison
from pawl.classifier.encoders.choice.comparison import compare
from pawl.ports import Floats


class _World:
    """A machine whose speed may change with time; `seconds` is what a text takes at speed 1."""

    def __init__(self, speed: Callable[[float], float] = lambda _: 1.0) -> None:
        self.time = 0.0
        self.calls: list[str] = []
        self._speed = speed

    def encoder(self, name: str, seconds: float) -> _Encoder:
        return _Encoder(self, name, seconds)

    def work(self, name: str, seconds: float) -> None:
        if not self.calls or self.calls[-1] != name:
            self.calls.append(name)
        self.time += seconds / self._speed(self.time)


class _Encoder:
    digest = "d"
    dimension = 1

    def __init__(self, world: _World, name: str, seconds: float) -> None:
        self._world, self._name, self._seconds = world, name, seconds

    def encode(self, texts: Sequence[str]) -> Floats:
        self._world.work(self._name, self._seconds * len(texts))
        return np.zeros((len(texts), 1), np.float32)


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "_all_seconds", lambda: 0.0)


def _compare(world: _World, **seconds: float) -> comparison.Comparison:
    encoders = {name: world.encoder(name, each) for name, each in seconds.items()}
    return compare(encoders, lambda: False, now=lambda: world.time)


def test_rounds_are_interleaved_and_turn_about() -> None:
    world = _World()
    found = _compare(world, a=0.001, b=0.002)
    assert (found.chosen, found.rounds, found.doubt) == ("a", 6, "")
    assert found.ratio == pytest.approx(2.0, rel=0.1)
    assert "".join(world.calls) == "ab" + "ababab" + "a", "a turn each, then ab, ba, ab, ba, ab, ba"


@pytest.mark.parametrize("speed", [lambda t: 1.0 + t / 2, lambda t: 1.0 / (1.0 + t)], ids=["faster", "slower"])
def test_a_machine_that_becomes_faster_or_slower_meanwhile_does_not_decide(speed: Callable[[float], float]) -> None:
    """Measured one after the other, the second would be up to three times as fast or slow as it is."""
    found = _compare(_World(speed), slow=0.0013, fast=0.001)
    assert found.chosen == "fast"
    assert found.doubt == ""


def test_load_that_comes_and_goes_leaves_a_doubt_or_the_right_choice() -> None:
    rng = np.random.default_rng(1)
    found = _compare(_World(lambda _: float(rng.choice([0.2, 1.0, 3.0]))), slow=0.0013, fast=0.001)
    assert found.chosen == "fast" or found.doubt


def test_what_is_faster_round_by_round_is_chosen_whatever_the_rounds_are_like() -> None:
    """Medians of the rates would name the other one."""
    rates = np.array([[1.1, 1.0], [1.1, 1.0], [3.3, 3.0], [3.3, 9.0], [1.1, 9.5], [5.5, 5.0]])
    assert np.median(rates[:, 0]) < np.median(rates[:, 1])
    best, ratio, _, _ = comparison._rank(rates)
    assert best == 0
    assert ratio == pytest.approx(1.1)


def test_equals_are_no_doubt() -> None:
    found = _compare(_World(), a=0.001, b=0.001)
    assert found.doubt == ""
    assert found.low <= 1.0 <= found.high


def test_what_was_measured_beside_other_processes_is_doubtful(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter(range(0, 10_000, 500))
    monkeypatch.setattr(comparison, "_all_seconds", lambda: float(next(ticks)))
    assert "kept" in _compare(_World(), a=0.001, b=0.002).doubt
    assert not comparison.is_idle(0.0)


def test_broken_off_it_says_so() -> None:
    world = _World()
    encoders = {"a": world.encoder("a", 0.001), "b": world.encoder("b", 0.002)}
    found = compare(encoders, lambda: True, now=lambda: world.time)
    assert (found.rounds, found.chosen) == (1, "a")
    assert "broken off" in found.doubt


def test_the_interval_is_that_of_order_statistics() -> None:
    """Of 9 ratios the second and the eighth bound the median at 96 %, of 12 the third and the tenth."""
    for rounds, (low, high) in {6: (1, 6), 9: (2, 8), 12: (3, 10)}.items():
        rates = np.array([[float(n), 1.0] for n in range(1, rounds + 1)])
        _, _, below, above = comparison._rank(rates)
        assert (below, above) == (low, high)
        outside = 2 * sum(math.comb(rounds, k) for k in range(low)) / 2**rounds
        assert outside <= 0.05

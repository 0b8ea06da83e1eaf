"""Measures which of some encoders is faster on this machine, in rounds that alternate."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pawl.ports import Encoder

_TEXTS = tuple(
    f"the {n}th card I asked for has {'still ' * (n % 9)}not come, and nobody can say when it will" for n in range(16)
)
_TURN_SECONDS = 0.03
_FEWEST_ROUNDS = 6
"""With as many, the interval of the median is from the lowest to the highest ratio: 97 %."""
_MOST_ROUNDS = 15
_CLEAR = 1.03  # a difference below it is not worth more rounds
_WIDE = 1.1  # an interval as wide as this, with 1 in it, says that the rounds contradict each other
_BUSY = 0.25  # cores (ADR 0016): a measurement beside as much is marked doubtful

Now = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The fastest of some backends, and how certain that is.

    rates   Texts/s of each, the median of its rounds: of one text at a time and of sixteen, the geometric mean.
    ratio   How many times as fast `chosen` is as the next one, the median of the rounds; 1 where it is the only one.
    low, high   The interval of that ratio, at 95 % or more.
    doubt   Why it should be measured again; empty where it need not be.
    """

    chosen: str
    rates: dict[str, float]
    ratio: float
    low: float
    high: float
    rounds: int
    doubt: str


def compare(encoders: Mapping[str, Encoder], stop: Callable[[], bool], now: Now = time.perf_counter) -> Comparison:
    """Measures in rounds, each with a turn of every encoder, until one is clearly faster or none is.

    Every second round takes the encoders in the opposite order. So load that comes and goes meets all of them, and its
    effect on a round shows in the interval. `stop` ends the measurement after the present round.
    """
    names = list(encoders)
    rounds: list[list[float]] = []
    for encoder in encoders.values():
        encoder.encode(_TEXTS)  # the first call is slower: it allocates and compiles
    watch = OthersLoad()
    while len(rounds) < _MOST_ROUNDS and not (rounds and stop()):
        order = names if len(rounds) % 2 == 0 else names[::-1]
        taken = {name: _turn(encoders[name], now) for name in order}
        rounds.append([taken[name] for name in names])
        if len(rounds) >= _FEWEST_ROUNDS and _is_clear(*_rank(np.array(rounds))[2:]):
            break
    best, ratio, low, high = _rank(np.array(rounds))
    rates = dict(zip(names, np.median(np.array(rounds), axis=0).round(1).tolist(), strict=True))
    doubt = _doubt(len(rounds), low, high, watch.cores())
    return Comparison(names[best], rates, round(ratio, 3), round(low, 3), round(high, 3), len(rounds), doubt)


def is_idle(seconds: float = 0.5) -> bool:
    """Waits so long and tells whether other processes left the cores alone; true where the system does not say."""
    watch = OthersLoad()
    time.sleep(seconds)
    return not watch.is_felt


def _turn(encoder: Encoder, now: Now) -> float:
    rates = []
    for size in (1, len(_TEXTS)):
        done, begun = 0, now()
        while done == 0 or now() - begun < _TURN_SECONDS:
            start = done % len(_TEXTS)
            done += len(encoder.encode(_TEXTS[start : start + size]))
        # The geometric mean below: a backend twice as fast alone and half as fast in batches comes out equal.
        rates.append(done / max(now() - begun, 1e-9))
    return float((rates[0] * rates[1]) ** 0.5)


def _rank(rates: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> tuple[int, float, float, float]:
    """Returns the column of the fastest, its ratio to the next, and the interval of that ratio.

    `rates` has shape (rounds, backends). The interval of the median is that of order statistics (the sign test), which
    assumes nothing about how the rounds differ.
    """
    if rates.shape[1] == 1:
        return 0, 1.0, 1.0, 1.0
    # relative to the round's speed, since rounds differ with the load
    shares = rates / np.exp(np.log(rates).mean(axis=1, keepdims=True))
    best, second = np.argsort(-np.median(shares, axis=0), kind="stable")[:2].tolist()
    ratios = np.sort(rates[:, best] / rates[:, second])
    n, outside, k = len(ratios), 0.0, 0
    # From the k-th lowest to the k-th highest ratio, with the largest k that misses the median in 5 % at most.
    while k < n // 2 and outside + 2 * math.comb(n, k) / 2**n <= 0.05:
        outside += 2 * math.comb(n, k) / 2**n
        k += 1
    low, high = ratios[max(k - 1, 0)], ratios[min(n - k, n - 1)]
    return best, float(np.median(ratios)), float(low), float(high)


def _is_clear(low: float, high: float) -> bool:
    """Whether one is faster, or neither by as much as matters."""
    return low > _CLEAR or (low > 1 / _CLEAR and high < _CLEAR)


def _doubt(rounds: int, low: float, high: float, others: float) -> str:
    if others >= _BUSY:
        return f"other processes kept {others:.1f} cores busy meanwhile"
    if rounds < _FEWEST_ROUNDS:
        return f"it was broken off after {rounds} rounds"
    if low <= 1.0 and high / low > _WIDE:
        return f"the rounds contradict each other: the ratio is between {low:.2f} and {high:.2f}"
    return ""


class OthersLoad:
    """Counts how many cores other processes keep busy, from its making until it is asked."""

    def __init__(self) -> None:
        self._begun, self._ours, self._all = time.perf_counter(), time.process_time(), _all_seconds()

    @property
    def is_felt(self) -> bool:
        """Whether the load is so high that a measurement beside it cannot be trusted."""
        return self.cores() >= _BUSY

    def cores(self) -> float:
        """Cores that others kept busy on average; 0 where the system does not say."""
        wall, used = time.perf_counter() - self._begun, _all_seconds() - self._all
        return max(0.0, (used - (time.process_time() - self._ours)) / wall) if wall > 0 else 0.0


def _all_seconds() -> float:
    """Returns the CPU seconds that all cores were busy since the start of the machine; 0 where it is not known."""
    with suppress(OSError, ValueError, IndexError):
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
        # Without idle and iowait. Steal counts: what other guests of the host take is missing here as well.
        user, nice, system, _, _, irq, softirq, steal = (int(ticks) for ticks in first.split()[1:9])
        return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
    return 0.0

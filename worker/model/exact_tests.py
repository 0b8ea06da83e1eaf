"""Exact tests on counts: they hold for any number of outcomes, however few.

Sources: Clopper & Pearson 1934 for the binomial tail; McNemar 1947 for paired outcomes, in its exact form, in which the
outcomes that differ are tosses of a fair coin.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import bdtrc

Bools = npt.NDArray[np.bool_]


def binomial_tail(hits: int, trials: int, share: float) -> float:
    """P(X >= hits) for X ~ B(trials, share); 1.0 for no hits."""
    return float(bdtrc(hits - 1, trials, share)) if hits > 0 else 1.0


@dataclass(frozen=True, slots=True)
class McNemar:
    """Paired outcomes that differ: `lost` are right before alone, `gained` right after alone."""

    lost: int
    gained: int

    @classmethod
    def of(cls, before: Bools | Sequence[bool], after: Bools | Sequence[bool]) -> McNemar:
        """Of what was right, (n,) each, in the same order."""
        was, now = np.asarray(before, dtype=bool), np.asarray(after, dtype=bool)
        return cls(int((was & ~now).sum()), int((~was & now).sum()))

    @property
    def p_worse(self) -> float:
        """One-sided: of so many lost, or more, if neither is better."""
        return binomial_tail(self.lost, self.lost + self.gained, 0.5)

    @property
    def p_better(self) -> float:
        """One-sided: of so many gained, or more, if neither is better."""
        return binomial_tail(self.gained, self.lost + self.gained, 0.5)

    @property
    def p_differs(self) -> float:
        """Two-sided: of so uneven a split, either way, if neither is better."""
        # An even split is in both tails, so twice the smaller one can pass 1.
        return min(1.0, 2.0 * min(self.p_worse, self.p_better))

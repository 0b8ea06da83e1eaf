"""What the noise detector is given of an arriving label, what it remembers, and what it returns."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from pawl.domain.quarantine import Doubt, Hold
from pawl.ports import Floats


@dataclass(frozen=True, slots=True)
class ArrivingLabel:
    """A queued sample and what the learner has to say about it before it learns it.

    answer, margin, rank   of the live head: its answer, how far the label is behind it, how many labels are before it.
    neighbours             labels of the nearest learned samples, nearest first; no suspects among them.
    gold                   label of a golden sample of this or nearly this text.
    z                      the last layer's part of the embedding (d_0,), unit length.
    """

    sample_id: str
    source: str | None
    label: str
    answer: str
    margin: float
    rank: int
    neighbours: tuple[str, ...]
    z: Floats
    gold: str | None = None


@dataclass(frozen=True, slots=True)
class RememberedLabel:
    """A sample of the window. `z` is kept of opposed ones alone."""

    sample_id: str
    source: str | None
    label: str
    doubt: Doubt | None
    z: Floats | None = None

    @property
    def is_opposed(self) -> bool:
        """Whether head and neighbours contradict its label."""
        return self.doubt is not None and self.doubt.opposed

    @property
    def is_plausible(self) -> bool:
        """Whether its label is at least among those that one would think of."""
        return self.doubt is None or self.doubt.plausible


@dataclass(frozen=True, slots=True)
class Confusion:
    """How the evaluation set's samples of a label fare by leave-one-out, and how often one answer opposes them.

    Of `items` samples `errors` get another answer, and `opposed` are opposed by the answer in question. `usual` is the
    share of opposed ones among the errors of all labels.
    """

    items: int
    errors: int
    opposed: int
    usual: float


Confusions = Callable[[str, str], Confusion]
"""(answer, label) -> how often the evaluation set's samples of `label` are opposed by `answer`."""


@dataclass(frozen=True, slots=True)
class NoiseVerdict:
    """holds: arrivals to keep out; pulls: earlier samples to take out where they are learned; id -> why.

    `doubts` is what speaks against arrivals, held or not; it is to be kept with them.
    """

    holds: dict[str, Hold] = field(default_factory=dict)
    pulls: dict[str, Hold] = field(default_factory=dict)
    doubts: dict[str, Doubt] = field(default_factory=dict)

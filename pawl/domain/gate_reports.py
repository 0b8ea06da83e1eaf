"""What the gate found, whole, as it is stored with every candidate. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from pawl.json_values import Json


@dataclass(frozen=True, slots=True)
class PairedTest:
    """Candidate against live on the same items.

    `lost` were right before and are wrong now, `gained` the reverse; `p_value` is the exact one-sided McNemar
    probability of losing at least so many if both were equally good; `interval` the 95 % Wald interval of the change.
    """

    items: int
    live: float
    candidate: float
    lost: int
    gained: int
    p_value: float
    interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ClassReport:
    """One label: recall on the evaluation set before and after, and the exact binomial test of its loss."""

    label: str
    items: int
    live: float
    candidate: float
    lost: int
    gained: int
    p_value: float
    new_samples: int


@dataclass(frozen=True, slots=True)
class Overlap:
    """A label that is new in the batch and answers texts of an older one.

    `taken` of the older label's `items` in the evaluation set were right and are answered with the new label now;
    `gained` of the new label's own `own` texts are answered with it, each without its own sample. `sentence` is what
    the owner is told.
    """

    label: str
    old_label: str
    taken: int
    items: int
    gained: int
    own: int
    sentence: str


@dataclass(frozen=True, slots=True)
class TaskReport:
    """All findings of one task. Rates are in [0, 1]; None where there is nothing to measure.

    overall     every item of the evaluation set, any label allowed as the answer: what the version will do.
    known       harm: the items whose label the live head knows, the labels it knows allowed as answers.
    heldout     of these, the held-out ones.
    forgetting  of these, those whose label got no new samples.
    golden      golden items; any label allowed, because their owner has said what they are.
    classes     recall, measured as `known` where the live head knows the label.
    overlaps    what is no harm but a trade: texts that go to labels that are new in the batch.
    """

    overall: PairedTest
    known: PairedTest
    heldout: PairedTest
    golden: PairedTest
    forgetting: PairedTest
    classes: Sequence[ClassReport]
    overlaps: Sequence[Overlap]
    prequential: float | None
    corrections: int
    corrections_right: float | None
    ece_live: float | None
    ece_candidate: float | None
    pinned_broken: Sequence[str]


@dataclass(frozen=True, slots=True)
class GateReport:
    """The verdict and why. `forced` names the reason where a candidate passes whatever was measured."""

    accepted: bool
    reasons: Sequence[str]
    tasks: Mapping[str, TaskReport]
    size_bytes: int | None = None
    latency_ratio: float | None = None
    forced: str | None = None
    thresholds: Json = field(default_factory=dict)
    charges: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """By task, the names of what `reasons` say in sentences."""

    def to_json(self) -> Json:
        """Plain JSON values, which share nothing that can be changed with the report."""
        # `fields` builds a tuple each time.
        return {name: _plain(getattr(self, name)) for name in self.__dataclass_fields__}


def _plain(value: Any) -> Any:
    """`dataclasses.asdict` without its deep copies of numbers and strings: a report has a thousand, and each correction
    one report.
    """
    if value is None or isinstance(value, str | int | float):  # nearly all of it
        return value
    if is_dataclass(value):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value

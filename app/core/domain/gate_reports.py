"""What the gate found, whole, as it is stored with every candidate. Frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass
from typing import Any

from app.core.domain.versions import Json


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
    """One label: recall on the panel before and after, and the exact binomial test of its loss."""

    label: str
    items: int
    live: float
    candidate: float
    lost: int
    gained: int
    p_value: float
    new_samples: int


@dataclass(frozen=True, slots=True)
class TaskReport:
    """All findings of one task. Rates are in [0, 1]; None where there is nothing to measure."""

    overall: PairedTest
    heldout: PairedTest
    golden: PairedTest
    forgetting: PairedTest
    classes: Sequence[ClassReport]
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

    def to_json(self) -> Json:
        """Plain JSON values, which share nothing that can be changed with the report."""
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

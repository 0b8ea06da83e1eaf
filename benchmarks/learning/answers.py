"""Questions that are asked again and again, and what a learner answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from benchmarks.datasets import Labelled
from pawl.ports import Floats

Bools = npt.NDArray[np.bool_]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Questions:
    """Texts with their right labels. What a learner works out of the texts alone is kept in `remembered`."""

    rows: Sequence[Labelled]
    remembered: dict[object, Any] = field(default_factory=dict)

    @property
    def texts(self) -> list[str]:
        """The texts."""
        return [row.text for row in self.rows]

    def remember(self, key: object, make: Callable[[], T]) -> T:
        """What was made under this key, or is made now."""
        if key not in self.remembered:
            self.remembered[key] = make()
        found: T = self.remembered[key]
        return found


@dataclass(frozen=True, slots=True)
class Scores:
    """A score for each label: values (n, C)."""

    labels: Sequence[str]
    values: Floats

    def best(self, allowed: set[str] | None = None) -> list[str]:
        """The best-scored label of each row, of all or of those that are allowed."""
        columns = [column for column, label in enumerate(self.labels) if allowed is None or label in allowed]
        chosen = self.values[:, columns].argmax(1)
        return [self.labels[columns[position]] for position in chosen]

    def right(self, rows: Sequence[Labelled], allowed: set[str] | None = None) -> Bools:
        """Whether each row gets its label, (n,)."""
        return np.array([label == row.label for label, row in zip(self.best(allowed), rows, strict=True)], dtype=bool)


class Learner(Protocol):
    """What the protocols teach and ask."""

    async def learn(self, rows: Sequence[Labelled]) -> None:
        """Learns labelled texts that come at once."""

    async def rest(self) -> None:
        """A quiet moment: what is done when nothing comes."""

    async def scores(self, questions: Questions) -> Scores:
        """Scores of all labels known."""

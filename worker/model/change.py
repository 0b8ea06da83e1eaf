"""What enters a task's head and what leaves it. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from worker.model.ridge import RowChange

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class LabelledFeatures:
    """A sample with its features (p,), and what decides whether it evaluates.

    `eligible` says that no encoder was trained on it.
    """

    sample_id: str
    label: str
    weight: float
    features: Tensor
    order: str
    heldout: bool = False
    golden: bool = False
    pinned: bool = False
    eligible: bool = True


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What enters and what leaves. `members` are the learned samples of each label in `TaskModel.stirred`.

    `corrections` are the ids of those of `adds` that may be emphasised.
    """

    adds: Sequence[LabelledFeatures] = ()
    removes: Sequence[LabelledFeatures] = ()
    members: Mapping[str, Sequence[LabelledFeatures]] = field(default_factory=dict)
    corrections: frozenset[str] = frozenset()

    @property
    def leaving(self) -> frozenset[str]:
        """Ids of what leaves."""
        return frozenset(example.sample_id for example in self.removes)

    def rows(self, index: Mapping[str, int], old: Sequence[float], new: Sequence[float]) -> RowChange:
        """The rows that enter, leave, or change their weight because their class has grown or shrunk.

        `index` are the columns of the labels, `old` and `new` the weights of a sample of each column.
        """
        signed = [(e, e.weight * new[index[e.label]]) for e in self.adds]
        signed += [(e, -e.weight * old[index[e.label]]) for e in self.removes]
        leaving = self.leaving
        for label, members in self.members.items():
            step = new[index[label]] - old[index[label]]
            signed += [(e, e.weight * step) for e in members if step and e.sample_id not in leaving]
        return RowChange(
            torch.stack([example.features for example, _ in signed]),
            torch.tensor([index[example.label] for example, _ in signed], dtype=torch.int64),
            torch.tensor([weight for _, weight in signed], dtype=torch.float64),
        )

    def emphasised(self, factors: Mapping[str, float]) -> ModelChange:
        """With these multiples, by sample id, of the weights of what enters."""
        return replace(self, adds=[replace(e, weight=e.weight * factors.get(e.sample_id, 1.0)) for e in self.adds])

"""Which samples judge a task's candidates, and who stays where there is no room for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from worker.model.change import LabelledFeatures

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """A sample of the set. `order` is its text digest: who stays when the set is full is decided by it."""

    sample_id: str
    class_index: int
    weight: float
    order: str
    heldout: bool
    golden: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class EvaluationRows:
    """Items and what they say as tensors: classes (m,) int64, the clients' weights (m,), and who is golden (m,)."""

    items: tuple[EvaluationItem, ...]
    targets: Tensor
    weights: Tensor
    golden: Tensor

    @classmethod
    def of(cls, items: Sequence[EvaluationItem], like: Tensor) -> EvaluationRows:
        """The rows of items, on the device and with the precision of `like`."""
        return cls(
            tuple(items),
            torch.tensor([item.class_index for item in items], dtype=torch.int64, device=like.device),
            torch.tensor([item.weight for item in items], dtype=torch.float64).to(like),
            torch.tensor([item.golden for item in items], dtype=torch.bool, device=like.device),
        )

    def plus(self, other: EvaluationRows) -> EvaluationRows:
        """These rows, then the other ones."""
        return EvaluationRows(
            (*self.items, *other.items),
            torch.cat([self.targets, other.targets]),
            torch.cat([self.weights, other.weights]),
            torch.cat([self.golden, other.golden]),
        )

    def take(self, rows: Sequence[int]) -> EvaluationRows:
        """Some rows, in the given order."""
        index = torch.tensor(rows, dtype=torch.int64, device=self.targets.device)
        items = tuple(self.items[row] for row in rows)
        return EvaluationRows(items, self.targets[index], self.weights[index], self.golden[index])


def evaluation_items(examples: Sequence[LabelledFeatures], index: Mapping[str, int]) -> list[EvaluationItem]:
    """Examples as items of an evaluation set; `index` are the columns of the labels."""
    return [
        EvaluationItem(e.sample_id, index[e.label], e.weight, e.order, e.heldout, e.golden, e.pinned) for e in examples
    ]


def balanced(items: Sequence[EvaluationItem], limit: int) -> list[int]:
    """Rows of the items that stay when there is room for `limit`, in their order; see `EvaluationSet.trim`."""
    if len(items) <= limit:
        return list(range(len(items)))
    by_class: dict[int, list[int]] = {}
    for row, item in enumerate(items):
        by_class.setdefault(item.class_index, []).append(row)
    sizes = {index: len(rows) for index, rows in by_class.items()}
    ranked: set[int] = set()  # classes whose rows are in order; those that lose nothing need none
    leaving: set[int] = set()
    for _ in range(len(items) - limit):
        # Ties go to the larger column, so that the outcome is the same in whatever order the samples came.
        largest = max(sizes, key=lambda index: (sizes[index], index))
        if largest not in ranked:
            by_class[largest].sort(key=lambda row: _rank(items[row]))
            ranked.add(largest)
        leaving.add(by_class[largest].pop())
        sizes[largest] -= 1
    return [row for row in range(len(items)) if row not in leaving]


def _rank(item: EvaluationItem) -> tuple[bool, bool, str]:
    # Ascending, and `balanced` takes from the end: golden rows stay longest, then held-out ones.
    return (not item.golden, not item.heldout, item.order)

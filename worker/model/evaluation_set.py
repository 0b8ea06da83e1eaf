"""The panel: stored samples that judge every candidate by predictions made without their own label.

For a sample of weight w and leverage h = phi^T A^-1 phi the score it would get from a head that never saw it is

    s_loo = (s - w h y) / (1 - w h),    s = phi W          (PRESS; Allen 1974)

exactly, with the weights of the other samples held. s and h follow every rank-k update in O(m k (p + C)):

    G = Phi_panel K,   s' = s + G S^-1 (Y - Phi W),   h' = h - rowsum(G * (G S^-1))

Only samples that no encoder was trained on may sit here (design invariant 8).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch

from worker.model.ridge import RankUpdate, RidgeHead

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class EvaluationItem:
    """A sample on the panel. `order` is its text digest: who stays when the panel is full is decided by it."""

    sample_id: str
    class_index: int
    weight: float
    order: str
    heldout: bool
    golden: bool
    pinned: bool


@dataclass(frozen=True, slots=True)
class EvaluationScores:
    """Scores (m, C) and leverages (m,) of the panel under one head."""

    scores: Tensor
    leverages: Tensor

    def leave_one_out(self, targets: Tensor, weights: Tensor) -> Tensor:
        """PRESS scores (m, C): what each item would get had it not been learned. `weights` (m,), 0 for unlearned."""
        own = (weights * self.leverages).clamp(max=1.0 - 1e-9)
        scores = self.scores.clone()
        scores[torch.arange(len(targets), device=targets.device), targets] -= own
        return scores.div_((1.0 - own)[:, None])


@dataclass(frozen=True, slots=True)
class EvaluationColumns:
    """What the items say, as tensors: class indices (m,) int64, the clients' weights (m,), and who is golden (m,)."""

    items: tuple[EvaluationItem, ...]
    targets: Tensor
    weights: Tensor
    golden: Tensor


class EvaluationSet:
    """Up to `limit` samples with their features (m, p), scores (m, C) and leverages (m,), in grown-ahead buffers."""

    def __init__(self, limit: int, head: RidgeHead) -> None:
        self.limit = limit
        self.items: tuple[EvaluationItem, ...] = ()
        self._features = torch.zeros(256, head.dimension, dtype=head.dtype, device=head.device)
        self._view = EvaluationScores(
            torch.zeros(0, head.classes, dtype=head.dtype, device=head.device),
            torch.zeros(0, dtype=head.dtype, device=head.device),
        )
        self._columns: EvaluationColumns | None = None

    def __len__(self) -> int:
        return len(self.items)

    @property
    def features(self) -> Tensor:
        """Features (m, p)."""
        return self._features[: len(self.items)]

    @property
    def columns(self) -> EvaluationColumns:
        """Of the present items; made anew only when these have changed."""
        if self._columns is None or self._columns.items is not self.items:
            place = self._features
            self._columns = EvaluationColumns(
                self.items,
                torch.tensor([item.class_index for item in self.items], dtype=torch.int64, device=place.device),
                torch.tensor([item.weight for item in self.items]).to(place),
                torch.tensor([item.golden for item in self.items], dtype=torch.bool, device=place.device),
            )
        return self._columns

    @property
    def targets(self) -> Tensor:
        """Class index of each item, (m,) int64."""
        return self.columns.targets

    def view(self, classes: int) -> EvaluationScores:
        """Scores and leverages now, the scores widened with zeros to `classes` columns."""
        missing = classes - self._view.scores.shape[1]
        return EvaluationScores(torch.nn.functional.pad(self._view.scores, (0, missing)), self._view.leverages)

    def view_after(self, update: RankUpdate) -> EvaluationScores:
        """Scores and leverages as they will be after a proposed update."""
        now = self.view(update.weights.shape[1])
        gain = self.features @ update.gain  # the one pass over the features, which are far larger than the caches
        fall = ((gain @ update.precision) * gain).sum(1)
        return EvaluationScores(now.scores + gain @ update.innovation, now.leverages - fall)

    def seat(
        self, items: Sequence[EvaluationItem], features: Tensor, head: RidgeHead, leverages: Tensor | None = None
    ) -> None:
        """Adds samples (features (k, p), leverages (k,) if known) at the end, scored by the head as it is."""
        if not items:
            return
        start, end = len(self.items), len(self.items) + len(items)
        if end > len(self._features):
            grown = self._features.new_zeros(max(end, 2 * len(self._features)), head.dimension)
            grown[:start] = self._features[:start]
            self._features = grown
        self.items = (*self.items, *items)
        self._features[start:end] = features
        rows = self._features[start:end]
        now = self.view(head.classes)
        own = head.leverages(rows) if leverages is None else leverages
        self._view = EvaluationScores(torch.cat([now.scores, rows @ head.weights]), torch.cat([now.leverages, own]))

    def truncate(self, size: int) -> None:
        """Takes back what was seated last."""
        self.items = self.items[:size]
        self._view = EvaluationScores(self._view.scores[:size], self._view.leverages[:size])

    def move_to(self, view: EvaluationScores) -> None:
        """Accepts the scores and leverages of an applied update."""
        self._view = view

    def recompute(self, head: RidgeHead) -> None:
        """Scores and leverages anew; after a refit."""
        rows = self.features
        self._view = EvaluationScores(rows @ head.weights, head.leverages(rows))

    def drop(self, sample_ids: Iterable[str]) -> None:
        """Unseats samples."""
        gone = set(sample_ids)
        if any(item.sample_id in gone for item in self.items):
            self._keep([row for row, item in enumerate(self.items) if item.sample_id not in gone])

    def trim(self) -> None:
        """Back to `limit`: from the largest class goes who is not held out, then who has the largest digest.

        Golden samples go last. The outcome depends on the set of samples alone, not on their order of arrival.
        """
        if len(self.items) > self.limit:
            self._keep(balanced(self.items, self.limit))

    def renumber(self, places: Sequence[int]) -> None:
        """Class `c` becomes class `places[c]`; `recompute` must follow."""
        self.items = tuple(replace(item, class_index=places[item.class_index]) for item in self.items)

    def copy(self) -> EvaluationSet:
        """An independent copy."""
        other = EvaluationSet.__new__(EvaluationSet)
        other.__dict__.update(self.__dict__, _features=self._features.clone())
        return other

    def _keep(self, rows: Sequence[int]) -> None:
        """Lets these rows stay. Gaps are filled from the end: a full panel loses one row at every correction, and
        moving all that follow it would cost more than the head update itself.
        """
        stay = sorted(rows)
        gaps = sorted(set(range(len(stay))).difference(stay))
        movers = stay[len(stay) - len(gaps) :]
        order = list(range(len(stay)))
        for gap, mover in zip(gaps, movers, strict=True):
            order[gap] = mover
        device = self._features.device
        self._features[torch.tensor(gaps, dtype=torch.int64, device=device)] = self._features[
            torch.tensor(movers, dtype=torch.int64, device=device)
        ]
        self.items = tuple(self.items[row] for row in order)
        index = torch.tensor(order, dtype=torch.int64, device=device)
        self._view = EvaluationScores(self._view.scores[index], self._view.leverages[index])


def balanced(items: Sequence[EvaluationItem], limit: int) -> list[int]:
    """Rows of the items that stay when there is room for `limit`, in their order; see `EvaluationSet.trim`."""
    if len(items) <= limit:
        return list(range(len(items)))
    by_class: dict[int, list[int]] = {}
    for row, item in enumerate(items):
        by_class.setdefault(item.class_index, []).append(row)
    sizes = {index: len(rows) for index, rows in by_class.items()}
    ranked: set[int] = set()  # classes in order; those that lose nothing need none
    gone: set[int] = set()
    for _ in range(len(items) - limit):
        largest = max(sizes, key=lambda index: (sizes[index], index))
        if largest not in ranked:
            by_class[largest].sort(key=lambda row: _rank(items[row]))
            ranked.add(largest)
        gone.add(by_class[largest].pop())
        sizes[largest] -= 1
    return [row for row in range(len(items)) if row not in gone]


def _rank(item: EvaluationItem) -> tuple[bool, bool, str]:
    return (not item.golden, not item.heldout, item.order)

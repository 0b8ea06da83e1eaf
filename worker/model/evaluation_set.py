"""The evaluation set: stored samples that judge every candidate by predictions made without their own label.

For a sample of weight w and leverage h = phi^T A^-1 phi the score it would get from a head that never saw it is

    s_loo = (s - w h y) / (1 - w h),    s = phi W          (PRESS; Allen 1974)

exactly, with the weights of the other samples held. s and h follow every rank-k update in O(m k (p + C)):

    G = Phi_m K,   s' = s + G S^-1 (Y - Phi W),   h' = h - rowsum(G * (G S^-1))

Only samples that no encoder was trained on may be in it (design invariant 8).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from worker.model.change import LabelledFeatures
from worker.model.ridge import RankUpdate, RidgeHead

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


@dataclass(frozen=True, slots=True)
class EvaluationScores:
    """Scores (m, C) and leverages (m,) of the evaluation rows under one head."""

    scores: Tensor
    leverages: Tensor

    def leave_one_out(self, targets: Tensor, weights: Tensor) -> Tensor:
        """PRESS scores (m, C): what each item would get from a head that never saw it.

        `targets` (m,) are the columns of the labels, `weights` (m,) those in the head, 0 for what it has not learned.
        """
        # w h is 1 where nothing but the sample itself speaks in its direction; without the clamp that divides by 0.
        influence = (weights * self.leverages).clamp(max=1.0 - 1e-9)
        scores = self.scores.clone()
        scores[torch.arange(len(targets), device=targets.device), targets] -= influence
        return scores.div_((1.0 - influence)[:, None])

    def widened(self, classes: int) -> EvaluationScores:
        """With columns of zeros up to `classes`."""
        missing = classes - self.scores.shape[1]
        return EvaluationScores(torch.nn.functional.pad(self.scores, (0, missing)), self.leverages)


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows that are evaluated beside those of a set and may enter it: features (k, p), leverages (k,)."""

    rows: EvaluationRows
    features: Tensor
    leverages: Tensor


class EvaluationSet:
    """Samples with their features (m, p), scores (m, C) and leverages (m,).

    `buffer` (at least m, p) holds the features; it grows ahead, so that a sample more does not move them all.
    """

    def __init__(self, buffer: Tensor, rows: EvaluationRows, scores: EvaluationScores) -> None:
        self._features = buffer
        self.rows = rows
        self._scores = scores

    @classmethod
    def empty(cls, head: RidgeHead) -> EvaluationSet:
        """A set without samples, for features and classes of a head."""
        buffer = torch.zeros(256, head.dimension, dtype=head.dtype, device=head.device)
        scores = EvaluationScores(buffer.new_zeros(0, head.classes), buffer.new_zeros(0))
        return cls(buffer, EvaluationRows.of([], buffer), scores)

    def __len__(self) -> int:
        return len(self.rows.items)

    @property
    def items(self) -> tuple[EvaluationItem, ...]:
        """The items, one for each row."""
        return self.rows.items

    @property
    def targets(self) -> Tensor:
        """Class index of each item, (m,) int64."""
        return self.rows.targets

    @property
    def features(self) -> Tensor:
        """Features (m, p); a view into the buffer."""
        return self._features[: len(self)]

    def scores(self, classes: int) -> EvaluationScores:
        """Scores and leverages under the head, in `classes` columns."""
        return self._scores.widened(classes)

    def scores_with(self, new: NewRows, head: RidgeHead, classes: int) -> EvaluationScores:
        """Scores and leverages of the rows of the set and of new ones under the head as it is."""
        present = self.scores(classes)
        entering = torch.nn.functional.pad(new.features @ head.weights, (0, classes - head.classes))
        leverages = torch.cat([present.leverages, new.leverages])
        return EvaluationScores(torch.cat([present.scores, entering]), leverages)

    def scores_after(self, update: RankUpdate, new: NewRows, before: EvaluationScores) -> EvaluationScores:
        """What `before`, those of `scores_with`, will be after a proposed update."""
        # The one pass over the features, which are far larger than scores and leverages.
        gain = torch.cat([self.features @ update.gain, new.features @ update.gain])
        # The diagonal of G S^-1 G^T, without making that (m, m) matrix.
        fall = ((gain @ update.precision) * gain).sum(1)
        return EvaluationScores(before.scores + gain @ update.innovation, before.leverages - fall)

    def new_rows(
        self,
        examples: Sequence[LabelledFeatures],
        index: Mapping[str, int],
        limit: int,
        head: RidgeHead,
        leverages: Tensor | None = None,
    ) -> NewRows:
        """The rows with which examples may enter. Nothing enters yet.

        Examples that are not eligible stay out, and of a bulk import those for which there is no room.

        Args:
            examples: k samples.
            index: column of each label.
            limit: most rows of the set.
            head: gives the leverages.
            leverages: (k,) of the examples under the head, if they are known.
        """
        able = [row for row, example in enumerate(examples) if example.eligible]
        items = evaluation_items([examples[row] for row in able], index)
        # Before features are stacked: those of 50,000 imported samples would take 1 GB in float64 at p = 2,433.
        kept = balanced(items, limit)
        chosen = [able[row] for row in kept]
        like = self._features
        features = torch.stack([examples[row].features for row in chosen]).to(like) if chosen else like[:0]
        leverages = head.leverages(features) if leverages is None else leverages[chosen]
        return NewRows(EvaluationRows.of([items[row] for row in kept], like), features, leverages)

    def append(self, new: NewRows, scores: EvaluationScores) -> None:
        """Adds rows at the end; `scores` are those of all rows from here on."""
        # Into the buffer behind the present rows: a correction adds one, and copying all of them would cost more.
        start, end = len(self), len(self) + len(new.rows.items)
        if end > len(self._features):
            grown = self._features.new_zeros(max(end, 2 * len(self._features)), self._features.shape[1])
            grown[:start] = self._features[:start]
            self._features = grown
        self._features[start:end] = new.features
        self.rows, self._scores = self.rows.plus(new.rows), scores

    def recompute(self, head: RidgeHead) -> None:
        """Scores and leverages anew; after a refit."""
        self._scores = EvaluationScores(self.features @ head.weights, head.leverages(self.features))

    def rescored(self, head: RidgeHead) -> EvaluationSet:
        """The same rows under another head. It shares the features: only one of the two may change afterwards."""
        other = EvaluationSet(self._features, self.rows, self._scores)
        other.recompute(head)
        return other

    def drop(self, sample_ids: Collection[str]) -> None:
        """Lets samples go."""
        stay = [row for row, item in enumerate(self.items) if item.sample_id not in sample_ids]
        if len(stay) < len(self):
            self._keep(stay)

    def trim(self, limit: int) -> None:
        """Back to `limit` rows: from the largest class goes who is not held out, then who has the largest digest.

        Golden samples go last. The outcome depends on the set of samples alone, not on their order of arrival.
        """
        if len(self) > limit:
            self._keep(balanced(self.items, limit))

    def renumber(self, places: Sequence[int]) -> None:
        """Class `c` becomes class `places[c]`; `recompute` must follow."""
        items = [replace(item, class_index=places[item.class_index]) for item in self.items]
        self.rows = EvaluationRows.of(items, self._features)

    def copy(self) -> EvaluationSet:
        """An independent copy."""
        return EvaluationSet(self._features.clone(), self.rows, self._scores)

    def _keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows alone.

        Gaps are filled with rows from the end: a full set loses one row at every correction, and moving all that follow
        it would cost more than the head update itself.
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
        self.rows = self.rows.take(order)
        index = torch.tensor(order, dtype=torch.int64, device=device)
        self._scores = EvaluationScores(self._scores.scores[index], self._scores.leverages[index])


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

"""How a head makes up for classes of different size: by the weight of their samples, and by prior corrections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from worker.model.evaluation_rows import EvaluationRows
from worker.model.scored_features import EvaluationScores, StackedScores

Tensor = torch.Tensor
# Finite, because differences of offsets are taken (`leave_one_out`), where inf - inf would be NaN.
NEVER = -1e4
"""Offset of a label without samples: it is never answered."""


@dataclass(frozen=True, slots=True)
class LabelSpace:
    """Labels of a head's columns, how many samples each has, and the column of each label."""

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    index: Mapping[str, int]

    @classmethod
    def of(cls, labels: Sequence[str], counts: Sequence[int]) -> LabelSpace:
        """The space of these labels, in their order."""
        return cls(tuple(labels), tuple(counts), {label: column for column, label in enumerate(labels)})

    def after(self, adds: Iterable[str], removes: Iterable[str]) -> LabelSpace:
        """When samples with these labels have come and gone; new labels at the end, in the order in which they come."""
        counts = dict(zip(self.labels, self.counts, strict=True))
        for label in adds:
            counts[label] = counts.get(label, 0) + 1
        for label in removes:
            counts[label] -= 1
        return LabelSpace.of([*counts], [*counts.values()])

    def widened(self, classes: int) -> tuple[int, ...]:
        """The counts, with zeros up to `classes` columns."""
        return self.counts + (0,) * (classes - len(self.counts))


@dataclass(frozen=True, slots=True)
class ClassBalance:
    """The two settings of it.

    Args:
        young_class_size: n0; a class with n < n0 samples weighs n0 / 2^floor(log2 n) a sample, others 1.
        prior_correction: tau in score_c - tau log n_c (logit adjustment; Menon et al., ICLR 2021).
    """

    young_class_size: int
    prior_correction: float

    def class_weight(self, count: int) -> float:
        """Weight of each sample of a class with `count` samples; steps at powers of two, so it changes rarely."""
        if count >= self.young_class_size:
            return 1.0
        # floor(log2 n) in integers: exact at the powers of two, where a logarithm in floats may fall just below.
        return self.young_class_size / float(1 << (max(count, 1).bit_length() - 1))

    def offsets(self, counts: Sequence[int], like: Tensor) -> Tensor:
        """Prior corrections (C,): -tau log n_c, `NEVER` where there is no sample; precision and device of `like`."""
        numbers = torch.tensor(list(counts), dtype=torch.float64)
        return torch.where(numbers > 0, -self.prior_correction * numbers.clamp(min=1).log(), NEVER).to(like)

    def item_weights(self, rows: EvaluationRows, counts: Sequence[int], learned: Tensor | None = None) -> Tensor:
        """With which each row is in a head, (m,); 0 for golden ones, and for those that are not `learned` (m,)."""
        levels = torch.tensor([self.class_weight(count) for count in counts]).to(rows.weights)
        # Weight 0 makes leave-one-out the plain score, which is right for what the head does not hold.
        is_in = ~rows.golden if learned is None else learned & ~rows.golden
        return torch.where(is_in, rows.weights * levels[rows.targets], 0.0)

    def leave_one_out(
        self,
        scores: EvaluationScores | StackedScores,
        rows: EvaluationRows,
        counts: Sequence[int],
        learned: Tensor | None = None,
    ) -> Tensor:
        """Leave-one-out scores (m, C) with prior corrections, of heads with these counts and scores for the rows."""
        targets, weights = rows.targets, self.item_weights(rows, counts, learned)
        left_out = scores.leave_one_out(targets, weights)
        offsets = self.offsets(counts, left_out)
        left_out += offsets
        # Without its own sample the class of an item is one smaller, and so is its prior.
        smaller = self.offsets([max(count - 1, 0) for count in counts], left_out) - offsets
        every = torch.arange(len(targets), device=targets.device)
        left_out[every, targets] += torch.where(weights > 0, smaller[targets], 0.0)
        return left_out

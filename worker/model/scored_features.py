"""What one head says of the samples of an evaluation set, by predictions made without their own label.

For a sample of weight w and leverage h = phi^T A^-1 phi the score it would get from a head that never saw it is

    s_loo = (s - w h y) / (1 - w h),    s = phi W          (PRESS; Allen 1974)

exactly, with the weights of the other samples held. s and h follow every rank-k update in O(m k (p + C)):

    G = Phi_m K,   s' = s + G S^-1 (Y - Phi W),   h' = h - rowsum(G * (G S^-1))

Heads that are stacked with fixed shares have the sum of their PRESS scores, each times its share, as exactly.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.ridge import RankUpdate, RidgeHead
from worker.model.stacked_head import stack

Tensor = torch.Tensor
_BEGINNING = 256
"""Rows that a new buffer has room for."""


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
class StackedScores:
    """Scores and leverages of the same rows under each head of a task, and how the heads are stacked."""

    heads: Mapping[HeadName, EvaluationScores]
    stacking: Stacking

    def leave_one_out(self, targets: Tensor, weights: Tensor) -> Tensor:
        """PRESS scores (m, C) of the heads together; exact, because the shares are held."""
        return stack(
            self.stacking, {head: scores.leave_one_out(targets, weights) for head, scores in self.heads.items()}
        )


@dataclass(frozen=True, slots=True)
class NewFeatures:
    """Of one head, rows that may enter an evaluation set: features (k, p), leverages (k,)."""

    features: Tensor
    leverages: Tensor


class ScoredFeatures:
    """Of one head, the features (m, p), scores (m, C) and leverages (m,) of evaluation rows.

    `buffer` (at least m, p) holds the features; it grows ahead, so that a sample more does not move them all.
    """

    def __init__(self, buffer: Tensor, scores: EvaluationScores) -> None:
        self._buffer = buffer
        self._scores = scores

    @classmethod
    def empty(cls, head: RidgeHead) -> ScoredFeatures:
        """Of no rows, for features and classes of a head."""
        buffer = torch.zeros(_BEGINNING, head.dimension, dtype=head.dtype, device=head.device)
        return cls(buffer, EvaluationScores(buffer.new_zeros(0, head.classes), buffer.new_zeros(0)))

    def __len__(self) -> int:
        return len(self._scores.leverages)

    @property
    def features(self) -> Tensor:
        """Features (m, p); a view into the buffer."""
        return self._buffer[: len(self)]

    def scores(self, classes: int) -> EvaluationScores:
        """Scores and leverages under the head, in `classes` columns."""
        return self._scores.widened(classes)

    def scores_with(self, new: NewFeatures, head: RidgeHead, classes: int) -> EvaluationScores:
        """Scores and leverages of the rows here and of new ones under the head as it is."""
        present = self.scores(classes)
        entering = torch.nn.functional.pad(new.features @ head.weights, (0, classes - head.classes))
        leverages = torch.cat([present.leverages, new.leverages])
        return EvaluationScores(torch.cat([present.scores, entering]), leverages)

    def scores_after(self, update: RankUpdate, new: NewFeatures, before: EvaluationScores) -> EvaluationScores:
        """What `before`, those of `scores_with`, will be after a proposed update."""
        # The one pass over the features, which are far larger than scores and leverages.
        gain = torch.cat([self.features @ update.gain, new.features @ update.gain])
        # The diagonal of G S^-1 G^T, without making that (m, m) matrix.
        fall = ((gain @ update.precision) * gain).sum(1)
        return EvaluationScores(before.scores + gain @ update.innovation, before.leverages - fall)

    def append(self, features: Tensor, scores: EvaluationScores) -> None:
        """Adds rows at the end; `scores` are those of all rows from here on."""
        # Into the buffer behind the present rows: a correction adds one, and copying all of them would cost more.
        start, end = len(self), len(self) + len(features)
        if end > len(self._buffer):
            grown = self._buffer.new_zeros(max(end, 2 * len(self._buffer)), self._buffer.shape[1])
            grown[:start] = self._buffer[:start]
            self._buffer = grown
        self._buffer[start:end] = features
        self._scores = scores

    def recompute(self, head: RidgeHead) -> None:
        """Scores and leverages anew; after a refit."""
        self._scores = EvaluationScores(self.features @ head.weights, head.leverages(self.features))

    def rescored(self, head: RidgeHead) -> ScoredFeatures:
        """The same rows under another head. It shares the features: only one of the two may change afterwards."""
        other = ScoredFeatures(self._buffer, self._scores)
        other.recompute(head)
        return other

    def keep(self, order: Tensor) -> None:
        """Keeps the rows of `order` (k,) alone, in that order; rows whose place does not change are not moved."""
        places = torch.nonzero(order != torch.arange(len(order), device=order.device))[:, 0]
        self._buffer[places] = self._buffer[order[places]]
        self._scores = EvaluationScores(self._scores.scores[order], self._scores.leverages[order])

    def copy(self) -> ScoredFeatures:
        """An independent copy."""
        return ScoredFeatures(self._buffer.clone(), self._scores)

"""One task's head: ridge regression that is exact after every change, however the changes came.

    A = sum_i w_i phi_i phi_i^T + lambda I        (p, p)
    B = sum_i w_i phi_i y_i^T                     (p, C), y one-hot
    W = A^-1 B                                    (p, C)

A change is a set of rows with signed weights: adding a sample is +w, removing it -w, re-weighting it the difference.
All three are one rank-k Woodbury step on A^-1,

    K = A^-1 Phi^T,  S = D^-1 + Phi K,  A'^-1 = A^-1 - K S^-1 K^T,  W' = W + K S^-1 (Y - Phi W),   D = diag(w)

so a sample leaves as exactly as it came. The Gram matrix and B are kept beside the inverse in float64: the inverse
can be made anew from them, which happens when the rounding error bounded below grows too large and when lambda is
chosen again. Both matrices take their changes delayed (`worker/model/low_rank_buffer.py`): a step reads A^-1 once, and
writes nothing of its size. While there are few rows, neither of them is a matrix (`worker/model/gram_matrix.py`).

Sources: recursive least squares (Plackett 1950; Woodbury 1950); McDonnell et al., RanPAC (NeurIPS 2023); Zhuang et
al., ACIL (NeurIPS 2022); leave-one-out by PRESS (Allen 1974).
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass

import torch

from worker.model.gram_matrix import GramMatrix
from worker.model.low_rank_buffer import LowRankBuffer, most_rows
from worker.model.ridge_system import RidgeSystem

Tensor = torch.Tensor

# Removing all but a few of heavily weighted samples lost 7 digits where nothing bounded it (docs/log.md).
_TOLERANCE = {torch.float32: 4e-6, torch.float64: 1e-10}
"""Relative error that is allowed to build up before the inverse is made anew."""
_CHUNK = 2048  # rows
_COMPOUNDS = 16.0  # growth of the error in one step from which on it multiplies: s < 1/4 in `_error_after`


@dataclass(frozen=True, slots=True)
class RowChange:
    """Rows that enter (+), leave (-) or change their weight: features (k, p), classes (k,) int64, weights (k,)."""

    features: Tensor
    classes: Tensor
    weights: Tensor


@dataclass(frozen=True, slots=True)
class Gain:
    """What a head says of rows Phi (k, p): A^-1 Phi^T (p, k), and Phi A^-1 Phi^T (k, k)."""

    columns: Tensor
    system: Tensor

    @property
    def leverages(self) -> Tensor:
        """phi^T A^-1 phi of each row, (k,)."""
        return self.system.diagonal()


@dataclass(frozen=True, slots=True)
class RankUpdate:
    """A change worked out but not applied: the next W (p, C), K (p, k), S^-1 (k, k), S^-1 (Y - Phi W) (k, C)."""

    change: RowChange
    weights: Tensor
    gain: Tensor
    precision: Tensor
    innovation: Tensor
    error: float


class RidgeHead:
    """Exact recursive ridge regression on one-hot targets.

    Args:
        dimension: p, the number of features.
        regularisation: lambda > 0.
        dtype: float64, or float32 for half the memory of the inverse.
        device: where the matrices live.
    """

    def __init__(
        self,
        dimension: int,
        regularisation: float,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.dimension = dimension
        self.regularisation = regularisation
        self.dtype = dtype
        self.device = torch.device(device)
        # The statistics are float64 also where the inverse is float32: what a refit starts from must not lose digits.
        self._gram = GramMatrix(dimension, self.device)
        self.moments = torch.zeros(dimension, 0, dtype=torch.float64, device=self.device)
        self.weights = torch.zeros(dimension, 0, dtype=dtype, device=self.device)
        self._inverse = LowRankBuffer.of_identity(1.0 / regularisation, dimension, self.weights)
        self._error = 0.0

    @property
    def classes(self) -> int:
        """C, the number of classes (columns of W)."""
        return self.moments.shape[1]

    @property
    def gram(self) -> Tensor:
        """The sum of w phi phi^T, (p, p) float64; a copy."""
        return self._gram.whole()

    @property
    def inverse(self) -> Tensor:
        """A^-1, (p, p); a copy."""
        return self._inverse.corner(self.dimension)

    def gain(self, features: Tensor) -> Gain:
        """Of rows (k, p); O(p^2 k). Whoever asks more than one thing of the same rows asks for this once."""
        features = features.to(self.device, self.dtype)
        columns = self._inverse.after(features).T  # A^-1 is symmetric; this order is 10 x faster for small k
        return Gain(columns, features @ columns)

    def propose(self, change: RowChange, classes: int | None = None, gain: Gain | None = None) -> RankUpdate:
        """Works out the step without taking it; O(p^2 k), independent of all that was learned before (O(p^3) where rows
        leave that nothing else is like).

        `classes` is the number of columns afterwards (at least the present one), `gain` that of the rows where it is
        known already.
        """
        total = max(self.classes, classes or 0)
        gain = gain or self.gain(change.features)
        # A clone: the diagonal of `system` is changed below, and the caller's gain is read again after this.
        weights, columns, system = self.weights, gain.columns, gain.system.clone()
        error = self._error_after(change.weights.to(system), system)
        if error > _TOLERANCE[self.dtype]:
            # Rows leave that are nearly all A holds along them: rounding errors could exceed what stays, and make the
            # system singular. From the statistics then, as `apply` will.
            solution = self.system(self.regularisation)
            weights, features = solution.solve(self.moments), change.features.to(self.moments)
            columns = solution.solve(features.T)
            system = features @ columns
        features, row_weights = change.features.to(system), change.weights.to(system)
        weights = torch.nn.functional.pad(weights, (0, total - self.classes))
        targets = torch.nn.functional.one_hot(change.classes.to(self.device), total).to(system)
        # S = D^-1 + Phi K. Indefinite where rows leave (negative weights), so there is no Cholesky factor to solve by.
        system.diagonal().add_(1.0 / row_weights)
        precision = torch.linalg.inv(system)
        innovation = precision @ (targets - features @ weights)
        weights = (weights + columns @ innovation).to(self.dtype)
        columns, precision, innovation = (each.to(self.dtype) for each in (columns, precision, innovation))
        return RankUpdate(change, weights, columns, precision, innovation, error)

    def apply(self, update: RankUpdate) -> None:
        """Takes a proposed step. The proposal must be the newest one made."""
        self._accumulate(update.change, update.weights.shape[1])
        self._error = update.error
        self.weights = update.weights
        # From the statistics, which have the change already. O(p^3), and rare; else nothing of size p^2 is written.
        if self._error > _TOLERANCE[self.dtype] or self._has_fewer_rows(len(update.precision)):
            self.refit()
        else:
            self._inverse.add(-update.gain, update.precision @ update.gain.T)

    def absorb(self, change: RowChange, classes: int | None = None) -> None:
        """Adds rows to the statistics alone; `refit` must follow. The way for many rows at once: O(n p^2)."""
        self._accumulate(change, max(self.classes, classes or 0))

    def refit(self, regularisation: float | None = None) -> None:
        """Makes A^-1 and W anew from the statistics, for another lambda if one is given; O(p^3), of K rows O(K^2 p)."""
        if regularisation is not None:
            self.regularisation = regularisation
        system = self.system(self.regularisation)
        self._inverse = system.inverse(self.dtype)
        self.weights = system.solve(self.moments).to(self.dtype)
        self._error = 0.0

    def system(self, regularisation: float) -> RidgeSystem:
        """A under another lambda, factored, in float64; changes nothing. Its W is `system.solve(head.moments)`."""
        return self._gram.system(regularisation)

    def statistics(self) -> dict[str, Tensor]:
        """All that makes the head, for `restore`: B, (p, C), as `moments`, and what `GramMatrix.statistics` gives.

        Copies in float64, on the CPU.
        """
        moments = self.moments.cpu().clone(memory_format=torch.contiguous_format)
        return {"moments": moments, **self._gram.statistics()}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Makes an empty head of what `statistics` gave; O(p^3), for K rows O(K^2 p)."""
        self._gram.restore(statistics)
        self.moments = statistics["moments"].to(self.device)
        self.refit()

    def leverages(self, features: Tensor) -> Tensor:
        """phi^T A^-1 phi, (n,), of features (n, p)."""
        return (self._inverse.after(features) * features).sum(1)

    def corner(self, size: int, change: RowChange | None = None) -> Tensor:
        """The first numbers of the Gram matrix, (size, size) float64; with a change, as they will be after it."""
        corner = self._gram.corner(size)
        if change is None:
            return corner
        features = change.features[:, :size].to(corner)
        return corner + (features * change.weights.to(corner)[:, None]).T @ features

    def diagonal(self, change: RowChange | None = None) -> Tensor:
        """The diagonal of the Gram matrix, (p,) float64; with a change, as it will be after it."""
        diagonal = self._gram.diagonal()
        return (
            diagonal if change is None else diagonal + change.weights.to(diagonal) @ change.features.to(diagonal) ** 2
        )

    def fold(self, columns: Tensor) -> None:
        """Adds columns together or lets them go: B M and W M for `columns` M (C, C') of zeros and ones.

        Exact, because both are linear in the targets. A column that goes must hold no samples any more.
        """
        columns = columns.to(self.device)
        self.moments = self.moments @ columns.to(self.moments)
        self.weights = self.weights @ columns.to(self.weights)

    def copy(self) -> RidgeHead:
        """An independent copy."""
        other = copy(self)
        other.__dict__.update(_gram=self._gram.copy(), _inverse=self._inverse.copy())
        other.moments, other.weights = self.moments.clone(), self.weights.clone()
        return other

    def _accumulate(self, change: RowChange, total: int) -> None:
        self.moments = torch.nn.functional.pad(self.moments, (0, total - self.classes))
        for start in range(0, len(change.weights), _CHUNK):  # bounds the float64 copy of the rows
            rows = slice(start, start + _CHUNK)
            features = change.features[rows].to(self.device, torch.float64)
            weights = change.weights[rows].to(self.device, torch.float64)
            self._gram.add(features, weights)
            targets = torch.nn.functional.one_hot(change.classes[rows].to(self.device), total).to(torch.float64)
            self.moments.addmm_((features * weights[:, None]).T, targets)

    def _has_fewer_rows(self, entering: int) -> bool:
        """Whether A^-1 need not become a matrix with this step: the same few rows have changed again and again."""
        rows = self._gram.rows
        full = not self._inverse.is_whole and self._inverse.waiting + entering > most_rows(self.dimension)
        return full and rows is not None and 2 * rows <= most_rows(self.dimension)

    def _error_after(self, row_weights: Tensor, leverage: Tensor) -> float:
        """Bound on the relative rounding error of A^-1 after this step.

        Along the changed rows A^-1 is divided by the singular values s of I + H D (H the leverages, D the weights).
        Where s > 1 (rows enter) the digits of the larger number are lost, once; where s < 1 (rows leave) what error
        there was grows by 1 / s^2. Small growth (re-weighting, one of many samples) is met by as much contraction
        when rows enter again, so only large growth compounds. Several rows that are nearly the same leave S close to
        singular: what is lost where they enter is lost once more for each digit of its condition, which counts in
        float64 alone (float32 is refitted by the other terms long before).
        """
        factors = leverage * row_weights
        factors.diagonal().add_(1.0)
        values = torch.linalg.svdvals(factors)
        condition = float(torch.linalg.cond(leverage + torch.diag(1.0 / row_weights)))
        epsilon = float(torch.finfo(self.dtype).eps)
        # s is 0 where a sample leaves that alone spoke in its direction (w h = 1).
        growth = max(1.0 / max(float(values[-1]), 1e-12), 1.0) ** 2
        error = (self._error + epsilon) * growth if growth > _COMPOUNDS else self._error + epsilon * growth
        solving = float(torch.finfo(torch.float64).eps) * condition
        return max(error, max(epsilon, solving) * float(values[0]))

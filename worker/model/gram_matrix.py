"""The Gram matrix of a task: sum of w phi phi^T over what it has learned, (p, p), float64.

While there are few rows it is kept as these rows and their weights. A row that comes again (its weight changes, it
leaves, another text has the same features) is found and its weight changed, so the rows are no more than the texts.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy

import torch

from worker.model.low_rank_buffer import LowRankBuffer, most_rows
from worker.model.ridge_system import DualSystem, PrimalSystem, RidgeSystem

Tensor = torch.Tensor

_SAME = 1e-12
"""Squared distance, relative to the squared length, up to which rows are one. The same embedding gives float32 features
that differ by 1e-7 from batch to batch, since sums are taken in another order."""
_NOTHING = 1e-12  # what is left of a weight that went, relative to it: 0.1 + 0.2 - 0.3
_MANY, _SPARSE = 256, 0.1
_BAND = 1024  # columns of a sparse product at a time: it has 12 bytes a number


class GramMatrix:
    """Begins empty, (size, size)."""

    def __init__(self, size: int, device: torch.device) -> None:
        self.size = size
        self._rows = torch.zeros(0, size, dtype=torch.float64, device=device)
        self._weights = self._rows.new_zeros(0)
        self._matrix: LowRankBuffer | None = None

    @property
    def rows(self) -> int | None:
        """K, of how many rows it is kept; None where it is kept as a matrix."""
        return len(self._rows) if self._matrix is None else None

    def add(self, features: Tensor, weights: Tensor) -> None:
        """Adds rows (k, p) with weights (k,), float64; negative ones take away."""
        if self._matrix is None and not self._merge(features, weights):
            self._matrix = LowRankBuffer(self.whole())
            self._rows, self._weights = self._rows[:0].clone(), self._weights[:0].clone()
        if self._matrix is not None:
            if len(features) >= _MANY and _is_sparse(features):
                _add_sparse(self._matrix.settle(), features, weights)
            else:
                self._matrix.add((features * weights[:, None]).T, features)

    def whole(self) -> Tensor:
        """A copy as one matrix, (p, p)."""
        return self.corner(self.size)

    def corner(self, size: int) -> Tensor:
        """A copy of its first rows and columns, (size, size)."""
        if self._matrix is not None:
            return self._matrix.corner(size)
        rows = self._rows[:, :size]
        return (rows * self._weights[:, None]).T @ rows

    def diagonal(self) -> Tensor:
        """A copy of its diagonal, (p,): sum of w phi_i^2."""
        if self._matrix is not None:
            return self._matrix.diagonal()
        return self._weights @ self._rows.square()

    def system(self, regularisation: float) -> RidgeSystem:
        """A = Gram + lambda I, factored; O(p^3), or O(K^2 p) of K rows."""
        if self._matrix is None:
            return DualSystem(self._rows, self._weights, regularisation)
        return PrimalSystem(self.whole(), regularisation)

    def statistics(self) -> dict[str, Tensor]:
        """All that makes it, for `restore`; copies on the CPU: `gram`, its upper triangle, or `rows`, `row_weights`."""
        if self._matrix is None:
            return {"rows": self._rows.cpu().clone(), "row_weights": self._weights.cpu().clone()}
        # Symmetric: half the numbers make half the snapshot.
        upper = torch.triu_indices(self.size, self.size)
        return {"gram": self._matrix.settle()[upper[0], upper[1]].cpu()}

    def restore(self, statistics: Mapping[str, Tensor]) -> None:
        """Makes an empty one what it was."""
        like = self._rows
        if "gram" not in statistics:
            self._rows, self._weights = statistics["rows"].to(like), statistics["row_weights"].to(like)
            return
        matrix, upper = like.new_zeros(self.size, self.size), statistics["gram"].to(like)
        rows, columns = torch.triu_indices(self.size, self.size)
        matrix[rows, columns] = upper
        matrix[columns, rows] = upper
        self._matrix = LowRankBuffer(matrix)

    def copy(self) -> GramMatrix:
        """An independent copy. Rows are never written into, so both may have them."""
        other = copy(self)
        other.__dict__.update(_matrix=None if self._matrix is None else self._matrix.copy())
        return other

    def _merge(self, features: Tensor, weights: Tensor) -> bool:
        """Takes rows in as rows; False where there are too many, or where one leaves that is not here."""
        if len(self._rows) + len(features) > most_rows(self.size) and len(features) > 1:
            return False
        present, places = len(self._rows), self._places(features)
        # One after the other, since the same row may come more than once.
        before = torch.nn.functional.pad(self._weights, (0, len(features)))
        after = before.index_add(0, places, weights)
        largest = before.abs().index_add(0, places, weights.abs())
        counts = after.abs() > _NOTHING * largest
        if bool((after[counts] < 0).any()) or int(counts.sum()) > most_rows(self.size):
            return False
        stay, enter = counts[:present], counts[present:]
        # A row has thousands of numbers, and most steps change weights alone: rows are copied where any come or go.
        if not bool(stay.all()):
            self._rows = self._rows[stay]
        if bool(enter.any()):
            self._rows = torch.cat([self._rows, features[enter]])
        self._weights = after[counts]
        return True

    def _places(self, features: Tensor) -> Tensor:
        """For each of k rows the first one that it is the same as, (k,): of those present, those before it, or it."""
        known, lengths = (torch.linalg.vector_norm(rows, dim=1).square() for rows in (self._rows, features))
        products = torch.cat([features @ self._rows.T, features @ features.T], 1)
        all_lengths = torch.cat([known, lengths])
        places = torch.arange(len(all_lengths), device=features.device)
        same = lengths[:, None] + all_lengths - 2 * products <= _SAME * lengths[:, None]
        # Itself at the latest, though rounding may leave it a distance.
        return torch.minimum(torch.where(same, places, len(places)).amin(1), places[len(self._rows) :])


def _is_sparse(features: Tensor) -> bool:
    return features.device.type == "cpu" and int(features.count_nonzero()) < _SPARSE * features.numel()


def _add_sparse(matrix: Tensor, features: Tensor, weights: Tensor) -> None:
    """Adds sum w phi phi^T to a matrix (p, p); a third of the time of a dense product where 5 % are not zero."""
    from scipy.sparse import csr_array

    rows = csr_array(features.numpy())
    weighted = csr_array((features * weights[:, None]).numpy().T)
    for start in range(0, len(matrix), _BAND):
        matrix[start : start + _BAND] += torch.from_numpy((weighted[start : start + _BAND] @ rows).toarray())

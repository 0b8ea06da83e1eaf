"""The system A = Gram + lambda I of a ridge regression, factored: as it is, or by its rows where they are few.

    A = Phi^T D Phi + lambda I,    A^-1 = (I - Phi^T S^-1 Phi) / lambda,    S = lambda D^-1 + Phi Phi^T

A is (p, p) and S (K, K) for K rows: with 50 samples at p = 4,096 a factor takes a millisecond, and not a second.

Sources: Woodbury 1950; the dual form of ridge regression (Saunders et al. 1998).
"""

from __future__ import annotations

from typing import Protocol

import torch

from worker.model.low_rank_buffer import LowRankBuffer

Tensor = torch.Tensor


class RidgeSystem(Protocol):
    """A, factored, in float64: with the inverse's precision A need not be positive definite."""

    def solve(self, right: Tensor) -> Tensor:
        """A^-1 right, (p, k), of `right` (p, k)."""

    def leverages(self, rows: Tensor) -> Tensor:
        """phi^T A^-1 phi, (n,), of rows (n, p)."""

    def inverse(self, dtype: torch.dtype) -> LowRankBuffer:
        """A^-1 in a precision."""


class PrimalSystem:
    """Of the matrix `gram` (p, p), which it takes over; O(p^3)."""

    def __init__(self, gram: Tensor, regularisation: float) -> None:
        gram.diagonal().add_(regularisation)
        self._factor = torch.linalg.cholesky(gram)

    def solve(self, right: Tensor) -> Tensor:
        """See `RidgeSystem`."""
        return torch.cholesky_solve(right, self._factor)

    def leverages(self, rows: Tensor) -> Tensor:
        """See `RidgeSystem`."""
        # L^-1 phi in columns, with L L^T = A: the squares add up to phi^T A^-1 phi.
        half: Tensor = torch.linalg.solve_triangular(self._factor, rows.to(self._factor).T, upper=False)
        return half.square().sum(0)

    def inverse(self, dtype: torch.dtype) -> LowRankBuffer:
        """See `RidgeSystem`."""
        identity = torch.eye(len(self._factor), dtype=self._factor.dtype, device=self._factor.device)
        # Not `cholesky_inverse`, which takes five times as long at p = 4,096.
        return LowRankBuffer(self.solve(identity).to(dtype))


class DualSystem:
    """Of rows (K, p) with positive weights (K,); O(K^2 p)."""

    def __init__(self, rows: Tensor, weights: Tensor, regularisation: float) -> None:
        self._rows, self._regularisation = rows, regularisation
        system = rows @ rows.T
        system.diagonal().add_(regularisation / weights)
        self._factor = torch.linalg.cholesky(system)

    def solve(self, right: Tensor) -> Tensor:
        """See `RidgeSystem`."""
        known = self._rows.T @ torch.cholesky_solve(self._rows @ right, self._factor)
        return (right - known).div_(self._regularisation)

    def leverages(self, rows: Tensor) -> Tensor:
        """See `RidgeSystem`."""
        rows = rows.to(self._rows)
        half = torch.linalg.solve_triangular(self._factor, self._rows @ rows.T, upper=False)
        leverages: Tensor = (rows.square().sum(1) - half.square().sum(0)).div_(self._regularisation)
        return leverages

    def inverse(self, dtype: torch.dtype) -> LowRankBuffer:
        """See `RidgeSystem`."""
        inverse = LowRankBuffer.of_identity(1.0 / self._regularisation, self._rows.shape[1], self._rows[:0].to(dtype))
        if len(self._rows):
            solved = torch.cholesky_solve(self._rows, self._factor).div_(-self._regularisation)
            inverse.add(self._rows.T.to(dtype), solved.to(dtype))
        return inverse

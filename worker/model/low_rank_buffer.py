"""A square matrix that takes low-rank changes at once and adds them up later.

    M = M_0 + L R,    L (p, K), R (K, p),    x M = x M_0 + (x L) R

A rank-1 change touches all p^2 numbers, and moving them through memory is what it costs: at p = 2,433 (47 MB) adding
32 of them together takes hardly longer than adding one. Until then they are kept as they came, which is as exact.

Source: delayed updates (McDaniel et al., J. Chem. Phys. 147, 174107, 2017).
"""

from __future__ import annotations

import torch

Tensor = torch.Tensor

WIDTH = 32
"""Largest K. A product pays 2 p K multiplications a row for what waits, and p^2 for the rest."""


class LowRankBuffer:
    """M, begun as `start` (p, p), which it owns."""

    def __init__(self, start: Tensor) -> None:
        self._settled = start
        self._left, self._right = start.new_zeros(len(start), 0), start.new_zeros(0, len(start))

    def add(self, left: Tensor, right: Tensor) -> None:
        """M += left (p, k) @ right (k, p)."""
        if left.shape[1] >= WIDTH:
            # What waits may go on waiting: the changes are a sum, in any order.
            self._settled.addmm_(left, right)
            return
        self._left, self._right = torch.cat([self._left, left], 1), torch.cat([self._right, right])
        if self._left.shape[1] >= WIDTH:
            self.settle()

    def settle(self) -> Tensor:
        """M, (p, p), in one piece; not a copy."""
        if self._left.shape[1]:
            self._settled.addmm_(self._left, self._right)
            # Clones, since an empty view would keep the memory of what has been added up.
            self._left, self._right = self._left[:, :0].clone(), self._right[:0].clone()
        return self._settled

    def after(self, rows: Tensor) -> Tensor:
        """The product rows @ M, (n, p)."""
        # (x L) R and not x (L R), which would be the p^2 numbers that waiting is to spare.
        return torch.addmm(rows @ self._settled, rows @ self._left, self._right)

    def corner(self, size: int) -> Tensor:
        """A copy of its first rows and columns, (size, size)."""
        return torch.addmm(self._settled[:size, :size], self._left[:size], self._right[:, :size])

    def copy(self) -> LowRankBuffer:
        """An independent copy."""
        # Settles this one too: then the copy is one matrix, and neither adds the same changes up again.
        return LowRankBuffer(self.settle().clone())

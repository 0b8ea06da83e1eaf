"""A square matrix that takes low-rank changes at once and adds them up later.

    M = M_0 + L R,    L (p, K), R (K, p),    x M = x M_0 + (x L) R

A rank-1 change touches all p^2 numbers, and moving them through memory is what it costs: at p = 2,433 (47 MB) adding
32 of them together takes hardly longer than adding one. Until then they are kept as they came, which is as exact.

Begun as a multiple of the identity, M has no p^2 numbers at all until K is a quarter of p: the inverse of a task of 50
samples takes 7 MB at p = 4,096, and not 134.

Source: delayed updates (McDaniel et al., J. Chem. Phys. 147, 174107, 2017).
"""

from __future__ import annotations

from copy import copy

import torch

Tensor = torch.Tensor

WIDTH = 32
"""Largest K that waits where M_0 is a matrix: a product pays 2 p K multiplications a row for it, p^2 for the rest."""
_PART = 4


def most_rows(size: int) -> int:
    """The largest K of a matrix (size, size) that is not whole; L and R then hold half of its numbers."""
    return size // _PART


class LowRankBuffer:
    """M, begun as `start` (p, p), which it owns."""

    def __init__(self, start: Tensor) -> None:
        self.size = start.shape[1]
        self._whole: Tensor | None = start
        self._scale = 0.0
        # L is kept transposed, so that both grow by rows; as an evaluation set does, ahead of what is needed.
        self._left, self._right = start.new_zeros(0, self.size), start.new_zeros(0, self.size)
        self._count = 0

    @classmethod
    def of_identity(cls, scale: float, size: int, like: Tensor) -> LowRankBuffer:
        """Begun as `scale` I, (size, size), in the precision and on the device of `like`."""
        buffer = cls(like.new_zeros(0, size))
        buffer._whole, buffer._scale = None, scale
        return buffer

    @property
    def is_whole(self) -> bool:
        """Whether M_0 is kept as a matrix."""
        return self._whole is not None

    @property
    def waiting(self) -> int:
        """K."""
        return self._count

    def add(self, left: Tensor, right: Tensor) -> None:
        """M += left (p, k) @ right (k, p)."""
        if self._whole is None and self._count + len(right) > most_rows(self.size):
            self.settle()
        if self._whole is not None and len(right) >= WIDTH:
            # What waits may go on waiting: the changes are a sum, in any order.
            self._whole.addmm_(left, right)
            return
        self._append(left, right)
        if self._whole is not None and self._count >= WIDTH:
            self.settle()

    def settle(self) -> Tensor:
        """M, (p, p), in one piece from now on; not a copy."""
        if self._whole is None:
            self._whole = self._identity()
        if self._count:
            left, right = self._waiting()
            self._whole.addmm_(left.T, right)
            # New ones, since an empty view would keep the memory of what has been added up.
            self._left, self._right, self._count = left.new_zeros(0, self.size), right.new_zeros(0, self.size), 0
        return self._whole

    def after(self, rows: Tensor) -> Tensor:
        """The product rows @ M, (n, p)."""
        left, right = self._waiting()
        # (x L) R and not x (L R), which would be the p^2 numbers that waiting is to spare.
        begun = rows * self._scale if self._whole is None else rows @ self._whole
        return torch.addmm(begun, rows @ left.T, right)

    def corner(self, size: int) -> Tensor:
        """A copy of its first rows and columns, (size, size)."""
        left, right = self._waiting()
        begun = self._identity(size) if self._whole is None else self._whole[:size, :size]
        return torch.addmm(begun, left[:, :size].T, right[:, :size])

    def diagonal(self) -> Tensor:
        """A copy of its diagonal, (p,)."""
        left, right = self._waiting()
        begun = left.new_full((self.size,), self._scale) if self._whole is None else self._whole.diagonal()
        return begun + (left * right).sum(0)

    def copy(self) -> LowRankBuffer:
        """An independent copy."""
        if self._whole is None:
            other = copy(self)
            other.__dict__.update(_left=self._left.clone(), _right=self._right.clone())
            return other
        # Settles this one too: then the copy is one matrix, and neither adds the same changes up again.
        return LowRankBuffer(self.settle().clone())

    def _waiting(self) -> tuple[Tensor, Tensor]:
        """L^T and R, (K, p) each."""
        return self._left[: self._count], self._right[: self._count]

    def _append(self, left: Tensor, right: Tensor) -> None:
        start, end = self._count, self._count + len(right)
        if end > len(self._left):
            room = min(max(2 * len(self._left), end), max(most_rows(self.size), end))
            grown = (each.new_empty(room, self.size) for each in (self._left, self._right))
            old, (self._left, self._right) = self._waiting(), grown
            self._left[:start], self._right[:start] = old
        self._left[start:end], self._right[start:end] = left.T, right
        self._count = end

    def _identity(self, size: int | None = None) -> Tensor:
        like = self._left
        return torch.eye(size or self.size, dtype=like.dtype, device=like.device).mul_(self._scale)

"""How unusual a text is for what has been learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.core.classifier.tensors import read_tensors, tensor_bytes
from app.core.domain.errors import ArtefactCorrupt
from app.core.ports import Floats

QUANTILES = 101


class Novelty:
    """The leverage h = |F^T z|^2, told as its rank among known texts.

    With F F^T = A^-1, h = z^T A^-1 z is the statistical leverage of z under the ridge statistics A: large where few
    known texts point (Hoaglin & Welsch 1978).

    Args:
        factor: F, shape (d_0, k), float32; of a longer z the first d_0 numbers count, the last layer's part.
        quantiles: The 0th, 1st, ... 100th percentile of h on held-out texts, shape (101,), not decreasing.

    Raises:
        ValueError: The shapes do not fit or the quantiles decrease.
    """

    def __init__(self, factor: Floats, quantiles: Floats) -> None:
        self.factor = np.ascontiguousarray(factor, dtype=np.float32)
        self.quantiles = np.ascontiguousarray(quantiles, dtype=np.float32)
        if self.factor.ndim != 2 or self.quantiles.shape != (QUANTILES,):
            raise ValueError(f"factor {self.factor.shape}, quantiles {self.quantiles.shape}")
        if (np.diff(self.quantiles) < 0).any():
            raise ValueError("the quantiles decrease")
        self._ranks = np.linspace(0.0, 1.0, QUANTILES)

    @classmethod
    def from_file(cls, path: Path) -> Novelty:
        """Reads `novelty.safetensors`; raises `ArtefactCorrupt`."""
        tensors = read_tensors(path, {"factor": 2, "quantiles": 1})
        try:
            return cls(tensors["factor"], tensors["quantiles"])
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def to_bytes(self) -> bytes:
        """The contents of `novelty.safetensors`."""
        return tensor_bytes({"factor": self.factor, "quantiles": self.quantiles})

    @property
    def dimension(self) -> int:
        """d_0, how many of the first numbers of z count."""
        return int(self.factor.shape[0])

    def leverage(self, z: Floats) -> Floats:
        """h, shape (n,), not negative, of embeddings z of shape (n, d)."""
        projected = z[:, : self.dimension] @ self.factor
        leverage: Floats = np.einsum("nk,nk->n", projected, projected)
        return leverage

    def score(self, z: Floats) -> Floats:
        """The share of held-out texts with a smaller h, shape (n,), in [0, 1], interpolated between percentiles."""
        return np.interp(self.leverage(z), self.quantiles, self._ranks).astype(np.float32)

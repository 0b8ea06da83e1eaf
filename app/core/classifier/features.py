"""Random ReLU features: a fixed, untrained widening of the embedding."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from app.core.classifier.tensors import read_tensors, tensor_bytes
from app.core.ports import Floats


class RandomFeatures:
    """phi(z) = [z, relu(z P^T) sqrt(2 / M), 1] with P (M, d) standard normal and fixed.

    The inner products of the ReLU part approach the arc-cosine kernel of order 1 (Cho & Saul 2009), so a linear map on
    phi can separate what one on z cannot; that such features serve a ridge head learned class by class is shown in
    RanPAC (McDonnell et al. 2023).

    Args:
        projection: P, shape (M, d), float32. M = 0 leaves [z, 1].
    """

    def __init__(self, projection: Floats) -> None:
        self.projection = np.ascontiguousarray(projection, dtype=np.float32)
        self._scale = np.float32(np.sqrt(2.0 / max(len(projection), 1)))

    @classmethod
    def create(cls, dimension: int, count: int, seed: int) -> RandomFeatures:
        """Draws P for embeddings of length d = `dimension` and M = `count`."""
        return cls(np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32))

    @classmethod
    def from_file(cls, path: Path) -> RandomFeatures:
        """Reads `features.safetensors`; raises `ArtefactCorrupt`."""
        return cls(read_tensors(path, {"projection": 2})["projection"])

    def to_bytes(self) -> bytes:
        """The contents of `features.safetensors`."""
        return tensor_bytes({"projection": self.projection})

    @property
    def dimension(self) -> int:
        """d, the length of z."""
        return int(self.projection.shape[1])

    @property
    def width(self) -> int:
        """The length of phi, p = d + M + 1."""
        return self.dimension + len(self.projection) + 1

    def expand(self, z: Floats) -> Floats:
        """phi, shape (n, d + M + 1), float32, from embeddings z of shape (n, d)."""
        d = self.dimension
        phi = np.empty((len(z), self.width), dtype=np.float32)
        phi[:, :d] = z
        hidden = phi[:, d:-1]
        np.matmul(z, self.projection.T, out=hidden)
        np.maximum(hidden, 0.0, out=hidden)
        hidden *= self._scale
        phi[:, -1] = 1.0
        return phi

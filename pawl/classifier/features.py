"""Random ReLU features: a fixed map that widens the embedding and is never trained."""

from __future__ import annotations

import hashlib
from functools import cached_property
from pathlib import Path

import numpy as np

from pawl.classifier.tensors import read_tensors, tensor_bytes
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats

_ALIKE = 0.5
"""Mean cosine between two texts from which an encoder's embeddings are centred."""
_SHORTEST = 1e-6  # of what is left without the centre: a text that lies on it keeps numbers that are finite


class RandomFeatures:
    """phi(z) = [z, relu(z_0 P^T) sqrt(2 / M), 1] with P (M, d_0) standard normal and fixed; z_0 = the first d_0 of z.

    The inner products of the ReLU part approach the arc-cosine kernel of order 1 (Cho & Saul 2009), so a linear map on
    phi can separate what one on z cannot; that such features serve a ridge head learned class by class is shown in
    RanPAC (McDonnell et al. 2023).

    z_0 is the last layer's part of an embedding of several layers. Widening the lower ones as well, or them alone, was
    no better (`docs/log.md`).

    Some encoders give all texts embeddings that share a large mean (multilingual-e5: a cosine of 0.8 between any two).
    For these a centre is taken from each layer's part of z, and what is left is scaled to unit length, before anything
    else (all-but-the-top, Mu & Viswanath 2018, without the directions). It is fixed as P is: exact updates need it.

    Args:
        projection: P, shape (M, d_0), float32. M = 0 leaves [z, 1].
        dimension: d, the length of z; d_0 unless given.
        centre: Shape (d,), float32; None where z is taken as it is.

    Raises:
        ValueError: d is smaller than d_0, no multiple of it where there is a centre, or the centre has another length.
    """

    def __init__(self, projection: Floats, dimension: int | None = None, centre: Floats | None = None) -> None:
        self.dimension = int(projection.shape[1]) if dimension is None else dimension
        if self.dimension < projection.shape[1]:
            raise ValueError(f"a projection of {projection.shape[1]} numbers does not fit embeddings of {dimension}")
        self.projection = np.ascontiguousarray(projection, dtype=np.float32)
        self.centre = None if centre is None else np.ascontiguousarray(centre, dtype=np.float32)
        if centre is not None and (centre.shape != (self.dimension,) or self.dimension % projection.shape[1]):
            raise ValueError(f"a centre of shape {centre.shape} does not fit embeddings of {self.dimension}")
        self._scale = np.float32(np.sqrt(2.0 / max(len(projection), 1)))

    @classmethod
    def create(cls, widened: int, count: int, seed: int, dimension: int | None = None) -> RandomFeatures:
        """Draws P, shape (M = `count`, d_0 = `widened`), for embeddings of length `dimension` (default d_0)."""
        return cls(np.random.default_rng(seed).standard_normal((count, widened), dtype=np.float32), dimension)

    @classmethod
    def from_file(cls, path: Path, dimension: int | None = None) -> RandomFeatures:
        """Reads `features.safetensors` for embeddings of length `dimension`; raises `ArtefactCorrupt`."""
        try:
            tensors = read_tensors(path, {"projection": 2, "centre": 1})
            centre = tensors["centre"]
            return cls(tensors["projection"], dimension, centre if len(centre) else None)
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def to_bytes(self) -> bytes:
        """The contents of `features.safetensors`."""
        centre = np.zeros(0, np.float32) if self.centre is None else self.centre
        return tensor_bytes({"projection": self.projection, "centre": centre})

    def centred_on(self, mean: Floats, texts: int) -> RandomFeatures:
        """The same features with a centre where the texts are so much alike that it pays, and without one elsewhere.

        Args:
            mean: Of the embeddings z of the texts that are learned, shape (d,).
            texts: How many these are.
        """
        length = float(mean[: self.widened] @ mean[: self.widened])
        # |mean|^2 holds each text's product with itself, which is 1 however much they differ from each other.
        alike = (texts * length - 1.0) / (texts - 1.0) if texts > 1 else 0.0
        return self.with_centre(mean if alike >= _ALIKE else mean[:0])

    def with_centre(self, centre: Floats) -> RandomFeatures:
        """The same features with this centre, shape (d,), or without one, shape (0,)."""
        return RandomFeatures(self.projection, self.dimension, centre if len(centre) else None)

    @cached_property
    def digest(self) -> str:
        """Hex SHA-256 of `features.safetensors`, as manifests name it."""
        return hashlib.sha256(self.to_bytes()).hexdigest()

    @property
    def widened(self) -> int:
        """d_0, how many of the first numbers of z are widened."""
        return int(self.projection.shape[1])

    @property
    def width(self) -> int:
        """The length of phi, p = d + M + 1."""
        return self.dimension + len(self.projection) + 1

    def expand(self, z: Floats) -> Floats:
        """Returns phi, shape (n, d + M + 1), float32, of embeddings z, shape (n, d)."""
        d = self.dimension
        phi = np.empty((len(z), self.width), dtype=np.float32)
        phi[:, :d] = z
        if self.centre is not None:
            _subtract(phi[:, :d], self.centre, self.widened)
        # Everything in place, in this view: a request makes one array of (n, p) and no other of its size.
        hidden = phi[:, d:-1]
        np.matmul(phi[:, : self.widened], self.projection.T, out=hidden)
        np.maximum(hidden, 0.0, out=hidden)
        hidden *= self._scale
        phi[:, -1] = 1.0
        return phi


def _subtract(z: Floats, centre: Floats, hidden: int) -> None:
    """Takes the centre from z and scales each layer's part, `hidden` numbers, to unit length; in place."""
    z -= centre
    for start in range(0, z.shape[1], hidden):
        part = z[:, start : start + hidden]
        part /= np.maximum(np.linalg.norm(part, axis=1, keepdims=True), _SHORTEST)

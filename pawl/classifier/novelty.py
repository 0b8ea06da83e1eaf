"""How unusual a text is for what a task has learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pawl.classifier.lexical import SparseRows
from pawl.classifier.tensors import read_tensors, tensor_bytes
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats

QUANTILES = 101
_SMALLEST = 1e-12
_RANKS = np.linspace(0.0, 1.0, QUANTILES)


class Novelty:
    """Ranks a text among the known texts of a task by how strange it is.

        strangeness = a log h - max_c s_c,    h = |F^T z|^2

    s are the head's scores: low where no label fits. With F F^T = A^-1, h = z^T A^-1 z is the statistical leverage of z
    under the ridge statistics A of the task's texts (Hoaglin & Welsch 1978). 1 / h is about the number of texts that
    point where z points, so -log h says how well known a text is, whatever its label. The two terms find different
    texts (`docs/log.md`).

    Args:
        factor: F, shape (d_0, k), float32; of a longer z the first d_0 numbers count, the last layer's part.
        quantiles: The 0th, 1st, ... 100th percentile of strangeness over known texts, shape (101,), not decreasing.
        leverage_weight: a.

    Raises:
        ValueError: The shapes do not fit, the quantiles decrease, or a is negative or not finite.
    """

    def __init__(self, factor: Floats, quantiles: Floats, leverage_weight: float) -> None:
        self.factor = np.ascontiguousarray(factor, dtype=np.float32)
        self.quantiles = np.ascontiguousarray(quantiles, dtype=np.float32)
        self.leverage_weight = leverage_weight
        if self.factor.ndim != 2:
            raise ValueError(f"factor {self.factor.shape}")
        _check_quantiles(self.quantiles)
        if not 0 <= leverage_weight < np.inf:
            raise ValueError(f"leverage weight {leverage_weight} is negative or not finite")

    @classmethod
    def from_file(cls, path: Path) -> Novelty:
        """Reads `novelty/<task>.safetensors`; raises `ArtefactCorrupt`."""
        tensors = read_tensors(path, {"factor": 2, "quantiles": 1, "leverage_weight": 1})
        try:
            return cls(tensors["factor"], tensors["quantiles"], tensors["leverage_weight"].item())
        except ValueError as error:
            raise ArtefactCorrupt(path=path, problem=str(error)) from error

    def to_bytes(self) -> bytes:
        """The contents of its file."""
        weight = np.array([self.leverage_weight], dtype=np.float32)
        return tensor_bytes({"factor": self.factor, "quantiles": self.quantiles, "leverage_weight": weight})

    @property
    def dimension(self) -> int:
        """d_0, how many of the first numbers of z count."""
        return int(self.factor.shape[0])

    def leverage(self, z: Floats) -> Floats:
        """Returns h, shape (n,), not negative, of embeddings z, shape (n, d)."""
        projected = z[:, : self.dimension] @ self.factor
        # As a square of a length it cannot come out negative, which z^T A^-1 z in float32 can; its logarithm is taken.
        leverage: Floats = np.einsum("nk,nk->n", projected, projected)
        return leverage

    def strangeness(self, z: Floats, scores: Floats) -> Floats:
        """Returns the strangeness, shape (n,), of embeddings z (n, d) and the head's scores for them (n, C)."""
        strangeness: Floats = np.log(np.maximum(self.leverage(z), np.float32(_SMALLEST)))
        strangeness *= np.float32(self.leverage_weight)
        strangeness -= scores.max(axis=1)
        return strangeness

    def rank(self, z: Floats, scores: Floats) -> Floats:
        """Returns the share of known texts that are less strange, shape (n,), interpolated between percentiles."""
        return _rank(self.quantiles, self.strangeness(z, scores))


class LexicalNovelty:
    """Ranks a text by its words and characters x, shape (p,), as `Novelty` does by what it means.

        strangeness = log u - max_c s_c,    u = sum_i x_i^2 / (1 + G_ii)

    u says how rare the text's columns are: G_ii is the sum of w x_i^2 over the task's texts, the diagonal of the Gram
    matrix; a leverage that takes the columns for independent. The true one would take a matrix of 64 MB and tell hardly
    better (`docs/log.md`). s are the lexical head's scores.

    Args:
        rarity: 1 / (1 + G_ii), shape (p,), float32, in (0, 1].
        quantiles: As for `Novelty`.

    Raises:
        ValueError: The shapes do not fit, the quantiles decrease, or a rarity is not in (0, 1].
    """

    def __init__(self, rarity: Floats, quantiles: Floats) -> None:
        self.rarity = np.ascontiguousarray(rarity, dtype=np.float32)
        self.quantiles = np.ascontiguousarray(quantiles, dtype=np.float32)
        if self.rarity.ndim != 1 or not ((self.rarity > 0) & (self.rarity <= 1)).all():
            raise ValueError(f"rarity {self.rarity.shape} of columns, of which some are not in (0, 1]")
        _check_quantiles(self.quantiles)

    def rarities(self, rows: SparseRows) -> Floats:
        """Returns u, shape (n,), in (0, 1]; 1 for a text without a character. Alone and in a batch the same bytes."""
        rarities = rows.weighted_squares(self.rarity)
        rarities[rarities == 0] = 1.0
        return rarities

    def rank(self, rarities: Floats, scores: Floats) -> Floats:
        """Returns the share of known texts that are less strange, shape (n,); scores (n, C) with offsets."""
        return _rank(self.quantiles, np.log(rarities) - scores.max(axis=1))


def _check_quantiles(quantiles: Floats) -> None:
    if quantiles.shape != (QUANTILES,) or (np.diff(quantiles) < 0).any():
        raise ValueError(f"quantiles {quantiles.shape} are not {QUANTILES} or decrease")


def _rank(quantiles: Floats, strangeness: Floats) -> Floats:
    return np.interp(strangeness, quantiles, _RANKS).astype(np.float32)

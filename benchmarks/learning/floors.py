"""Learners to compare with: ridge regression on hashed n-grams, and the nearest class mean of the frozen encoder."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import scipy.sparse
import torch
from sklearn.feature_extraction.text import HashingVectorizer

from benchmarks.datasets import Labelled
from benchmarks.learning.answers import Questions, Scores
from pawl.ports import Encoder, Floats

Tensor = torch.Tensor
_HASHES = 2**17


class NGramRidge:
    """Exact ridge regression on one-hot targets over hashed word 1-2-grams and character 3-5-grams (within words).

    In the dual form, K = X X^T + lambda I = L L^T. Rows that come later extend L and U = L^-1 Y, so that it is as exact
    after a thousand small batches as after one large one; W = X^T L^-T U.
    """

    def __init__(self, regularisation: float = 0.3) -> None:
        self._regularisation = regularisation
        self._vectorizers = (
            HashingVectorizer(ngram_range=(1, 2), n_features=_HASHES, dtype=np.float32),
            HashingVectorizer(analyzer="char_wb", ngram_range=(3, 5), n_features=_HASHES, dtype=np.float32),
        )
        self._rows = scipy.sparse.csr_matrix((0, 2 * _HASHES), dtype=np.float32)
        self._factor = torch.zeros(256, 256)
        self._half: Tensor = torch.zeros(0, 0)
        self._labels: dict[str, int] = {}
        self._weights: Floats | None = None

    async def learn(self, rows: Sequence[Labelled]) -> None:
        """Extends the factor by these rows."""
        if not rows:
            return
        fresh = self._features([row.text for row in rows])
        for row in rows:
            self._labels.setdefault(row.label, len(self._labels))
        before, total = self._rows.shape[0], self._rows.shape[0] + len(rows)
        self._grow(total)
        old = self._factor[:before, :before]
        cross = torch.from_numpy((self._rows @ fresh.T).toarray())
        own = torch.from_numpy((fresh @ fresh.T).toarray())
        own.diagonal().add_(self._regularisation)
        half = torch.nn.functional.pad(self._half, (0, len(self._labels) - self._half.shape[1]))
        targets = torch.zeros(len(rows), len(self._labels))
        targets[range(len(rows)), [self._labels[row.label] for row in rows]] = 1.0
        if before:
            side = torch.linalg.solve_triangular(old, cross, upper=False)
            own -= side.T @ side
            targets -= side.T @ half
            self._factor[before:total, :before] = side.T
        corner = torch.linalg.cholesky(own)
        self._factor[before:total, before:total] = corner
        self._half = torch.cat([half, torch.linalg.solve_triangular(corner, targets, upper=False)])
        self._rows = scipy.sparse.vstack([self._rows, fresh], format="csr")
        self._weights = None

    async def rest(self) -> None:
        """Nothing is left to do."""

    async def scores(self, questions: Questions) -> Scores:
        """X W."""
        asked = questions.remember("n-grams", lambda: self._features(questions.texts))
        if self._weights is None:
            size = self._rows.shape[0]
            dual = torch.linalg.solve_triangular(self._factor[:size, :size].T, self._half, upper=True)
            self._weights = self._rows.T @ dual.numpy()
        return Scores(list(self._labels), asked @ self._weights)

    def _features(self, texts: Sequence[str]) -> scipy.sparse.csr_matrix:
        return scipy.sparse.hstack([one.transform(texts) for one in self._vectorizers], format="csr")

    def _grow(self, size: int) -> None:
        if size > len(self._factor):
            room = max(size, min(2 * len(self._factor), size + 4096)) - len(self._factor)
            self._factor = torch.nn.functional.pad(self._factor, (0, room, 0, room))


class NearestClassMean:
    """The class whose mean embedding has the largest cosine with the text's (Mensink et al., 2013)."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._sums: dict[str, Floats] = {}

    async def learn(self, rows: Sequence[Labelled]) -> None:
        """Adds to the sums."""
        for row, z in zip(rows, self._encoder.encode([row.text for row in rows]), strict=True):
            self._sums[row.label] = self._sums.get(row.label, np.zeros_like(z)) + z

    async def rest(self) -> None:
        """Nothing is left to do."""

    async def scores(self, questions: Questions) -> Scores:
        """Cosines."""
        means = np.stack(list(self._sums.values()))
        means /= np.linalg.norm(means, axis=1, keepdims=True)
        z = questions.remember(self._encoder.digest, lambda: self._encoder.encode(questions.texts))
        return Scores(list(self._sums), z @ means.T)

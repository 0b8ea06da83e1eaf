"""The learner to compare with where words are not separated by spaces: ridge regression on character n-grams."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import RidgeClassifier

from benchmarks.datasets import Labelled
from benchmarks.learning.answers import Questions, Scores

_CHOICES = (0.1, 0.3, 1.0, 3.0, 10.0)
_HELD_BACK = 5  # every fifth row


class CharacterRidge:
    """scikit-learn's ridge classifier on tf-idf of character 1-4-grams; learns everything at once.

    The penalty is the one of five that answers most of every fifth training row, taught the others.
    """

    def __init__(self) -> None:
        self._vectorizer = TfidfVectorizer(
            analyzer="char", ngram_range=(1, 4), min_df=2, sublinear_tf=True, dtype=np.float32
        )
        self._ridge = RidgeClassifier()
        self.penalty: float | None = None

    async def learn(self, rows: Sequence[Labelled]) -> None:
        """Chooses the penalty, then learns all rows; what was learned before is forgotten."""
        asked = rows[::_HELD_BACK]
        taught = [row for place, row in enumerate(rows) if place % _HELD_BACK]
        self.penalty = max(_CHOICES, key=lambda penalty: self._share_right(penalty, taught, asked))
        self._fit(self.penalty, rows)

    async def rest(self) -> None:
        """Nothing is left to do."""

    async def scores(self, questions: Questions) -> Scores:
        """The decision function; of two classes its negative is the other one's."""
        found = self._ridge.decision_function(self._vectorizer.transform(questions.texts))
        values = np.stack([-found, found], axis=1) if found.ndim == 1 else found
        return Scores([str(label) for label in self._ridge.classes_], values.astype(np.float32))

    def _fit(self, penalty: float, rows: Sequence[Labelled]) -> None:
        features = self._vectorizer.fit_transform([row.text for row in rows])
        self._ridge = RidgeClassifier(alpha=penalty, solver="sparse_cg", tol=1e-3)
        self._ridge.fit(features, [row.label for row in rows])

    def _share_right(self, penalty: float, taught: Sequence[Labelled], asked: Sequence[Labelled]) -> float:
        self._fit(penalty, taught)
        features = self._vectorizer.transform([row.text for row in asked])
        return float(self._ridge.score(features, [row.label for row in asked]))

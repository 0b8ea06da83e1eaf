"""The head as one ridge regression on everything that is learned: what every chain of updates must equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pawl.classifier.classifier import Classifier
from pawl.domain.samples import Sample
from pawl.domain.versions import HeadName

Doubles = npt.NDArray[np.float64]


def features(model: Classifier, texts: Sequence[str], head: HeadName = "semantic", task: str = "default") -> Doubles:
    """What a head sees of texts, shape (n, p), in float64."""
    lexical = model.heads[task].lexical
    if head == "semantic" or lexical is None:
        return model.features.expand(model.embed(texts)).astype(np.float64)
    return lexical.features.expand(texts).astype(np.float64)


def direct_weights(
    model: Classifier,
    samples: Sequence[Sample],
    regularisation: float,
    task: str = "default",
    head: HeadName = "semantic",
) -> Doubles:
    """W of a head, shape (p, C), columns in the order of the model's labels, from the samples alone, in float64.

    Each sample of a class with n < 64 samples weighs 64 / 2^floor(log2 n), others 1, times the client's weight and its
    emphasis.
    """
    labels = model.heads[task].labels
    counts = Counter(sample.label for sample in samples)
    phi = features(model, [sample.text for sample in samples], head, task)
    level = {label: 64 / 2 ** (n.bit_length() - 1) if n < 64 else 1.0 for label, n in counts.items()}
    weights = np.array([sample.weight * sample.emphasis * level[sample.label] for sample in samples])
    targets = np.array([[sample.label == label for label in labels] for sample in samples], dtype=np.float64)
    gram = (phi * weights[:, None]).T @ phi + regularisation * np.eye(phi.shape[1])
    solved: Doubles = np.linalg.solve(gram, (phi * weights[:, None]).T @ targets)
    return solved


def relative_error(found: npt.NDArray[np.floating], expected: Doubles) -> float:
    """Frobenius norm of the difference over that of the expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

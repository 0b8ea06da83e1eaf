"""The head as one ridge regression on everything that is learned: what every chain of updates must equal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from pawl.classifier.classifier import Classifier
from pawl.domain.samples import Sample

Doubles = npt.NDArray[np.float64]


def direct_weights(
    model: Classifier, samples: Sequence[Sample], regularisation: float, task: str = "default"
) -> Doubles:
    """W, shape (p, C), columns in the order of the model's labels, from the samples alone, in float64.

    Each sample of a class with n < 64 samples weighs 64 / 2^floor(log2 n), others 1, times the client's weight and its
    emphasis.
    """
    labels = model.heads[task].labels
    counts = Counter(sample.label for sample in samples)
    phi = model.features.expand(model.embed([sample.text for sample in samples])).astype(np.float64)
    level = {label: 64 / 2 ** (n.bit_length() - 1) if n < 64 else 1.0 for label, n in counts.items()}
    weights = np.array([sample.weight * sample.emphasis * level[sample.label] for sample in samples])
    targets = np.array([[sample.label == label for label in labels] for sample in samples], dtype=np.float64)
    gram = (phi * weights[:, None]).T @ phi + regularisation * np.eye(phi.shape[1])
    solved: Doubles = np.linalg.solve(gram, (phi * weights[:, None]).T @ targets)
    return solved


def relative_error(found: npt.NDArray[np.floating], expected: Doubles) -> float:
    """Frobenius norm of the difference over that of the expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

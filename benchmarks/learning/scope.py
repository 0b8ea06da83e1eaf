"""How well a number tells in-scope from out-of-scope texts, and how well probabilities are calibrated."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from benchmarks.learning.answers import Bools

Values = npt.NDArray[Any]

BINS = 15
KEPT = 0.95
"""The share of in-scope texts that a threshold keeps."""


def auroc(inside: Values, outside: Values) -> float:
    """The probability that a random outside text (n,) has a larger number than a random inside one (m,), ties half.

    Mann & Whitney's U divided by m n (Hanley & McNeil 1982).
    """
    ranks = rankdata(np.concatenate([inside, outside]))
    above = ranks[len(inside) :].sum() - len(outside) * (len(outside) + 1) / 2
    return float(above / (len(inside) * len(outside)))


def kept_outside(inside: Values, outside: Values, kept: float = KEPT) -> float:
    """The share of outside texts at or below the smallest threshold that at least `kept` of the inside ones are at or
    below: the false positive rate at 95 % true positives, in scope being positive (Hendrycks & Gimpel, ICLR 2017).
    """
    threshold = np.quantile(inside, kept, method="inverted_cdf")
    return float((outside <= threshold).mean())


def calibration_error(confidence: Values, right: Bools, bins: int = BINS) -> float:
    """ECE = sum_b |B_b| / n * |mean of right over B_b - mean confidence over B_b|, bins of equal mass.

    Texts (n,) are put in order of their confidence, the probability of the answer, and cut into `bins` parts whose
    sizes differ by at most one (Naeini et al., AAAI 2015; Nguyen & O'Connor, EMNLP 2015). Without texts it is 0.
    """
    if not len(confidence):
        return 0.0
    order = np.argsort(confidence, kind="stable")
    gaps: list[Values] = np.array_split(right[order] - confidence[order], bins)
    return float(sum(abs(gap.sum()) for gap in gaps) / len(confidence))

"""From which margin on the words of a text alone may answer it, without the encoder (the cascade).

The lexical head costs a fiftieth of the encoder. Where the margin of its own score (best label minus second best) is
large it is right nearly always. The threshold is the smallest margin at which, by exact leave-one-out of both heads,
answering all texts above it by words loses at most so many points of accuracy against the pair.

The threshold is the best of many on one finite set, so it is optimistic by about 1 / m: of m items none is seen lost
where one of m is lost in truth. Measured on Banking77 with 1,000 samples, thresholds from 60, 150 and 400 items lost
1.4, 0.6 and 0.2 points on the test part, and none where the share of texts was cut in the ratio of m to 1,000
(docs/log.md, 2026-11-29); from 1,000 items on it is taken as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from pawl.classifier.calibration import fit_temperature

Tensor = torch.Tensor

ENOUGH = 1000
"""Evaluation items from which on the threshold is taken as it is found; with fewer the share of texts shrinks."""


@dataclass(frozen=True, slots=True)
class FastAnswers:
    """From which margin on words answer alone, and which share of the evaluation items that is."""

    threshold: float
    share: float


def choose_threshold(lexical: Tensor, pair: Tensor, targets: Tensor, loss: float) -> FastAnswers | None:
    """The smallest margin from which on words lose at most `loss` points of accuracy against the pair; None where there
    is none.

    Args:
        lexical: leave-one-out scores of the lexical head, offsets included, (m, C).
        pair: those of both heads, (m, C).
        targets: column of each item's label, (m,).
        loss: points of accuracy (of 100) that may be lost.
    """
    if not len(targets) or lexical.shape[1] < 2:
        return None
    # Stable, so that items of equal margin keep their order, and the outcome is the same on every machine.
    margins, order = margins_of(lexical).sort(descending=True, stable=True)
    lost = (pair.argmax(1) == targets).int() - (lexical.argmax(1) == targets).int()
    allowed = lost[order].cumsum(0) <= loss / 100.0 * len(targets) + 1e-9
    # Items of one margin are answered together or not at all.
    is_last = torch.ones_like(allowed)
    is_last[:-1] = margins[1:] < margins[:-1]
    counts = torch.nonzero(allowed & is_last).flatten() + 1  # numbers of items that words may answer, rising
    most = int(counts[-1]) * min(len(targets), ENOUGH) // ENOUGH if len(counts) else 0
    counts = counts[counts <= most]
    if not len(counts):
        return None
    answered = int(counts[-1])
    return FastAnswers(float(margins[answered - 1]), answered / len(targets))


def fit_words(lexical: Tensor, targets: Tensor, known: Tensor, threshold: float | None) -> float:
    """The temperature of answers by words, on those of the evaluation items that words would answer.

    Args:
        lexical: as in `choose_threshold`.
        targets: as there.
        known: whether the class of each item has another sample (m,): without one words cannot be right.
        threshold: as chosen; None fits all items.
    """
    if threshold is not None:
        known = known & (margins_of(lexical) >= threshold)
    return fit_temperature(lexical[known].double().cpu().numpy(), targets[known].cpu().numpy())


def margins_of(scores: Tensor) -> Tensor:
    """Best score minus second best of each row (m, C), C at least 2."""
    best = scores.topk(2, dim=1).values
    return best[:, 0] - best[:, 1]

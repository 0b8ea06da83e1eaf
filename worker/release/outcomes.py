"""Which evaluation items two heads get right: among all labels, and among those that the earlier one knows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from worker.model.class_balance import NEVER
from worker.model.proposal import PairedScores

Bools = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float64]
Pair = tuple[Bools, Bools]
"""Where the earlier head is right and where the candidate is, (n,) each, on the same items."""

ALL, GOLDEN = "accuracy", "golden accuracy"
KNOWN, HELDOUT = "accuracy among the known labels", "accuracy on held-out texts"
ABSENT = "accuracy on classes without new samples"


def class_name(label: str) -> str:
    """What the loss of one class is called in a report."""
    return f"class {label!r}"


def right(scores: Scores, targets: Indices) -> Bools:
    """Where the best score (n, C) is that of the target (n,), and belongs to a label that can be answered."""
    if not len(targets):
        return np.zeros(0, dtype=bool)
    # Scores are of the order of 1, so that of a label without samples stays far below `NEVER / 2`. A row that has no
    # other would else be right wherever argmax, which then names the first column, hits the target.
    return np.asarray((scores.argmax(1) == targets) & (scores.max(1) > NEVER / 2), dtype=bool)


def as_array(scores: torch.Tensor) -> Scores:
    """Scores in float64 on the CPU."""
    array: Scores = scores.double().cpu().numpy()
    return array


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Of an earlier head and the candidate on the m evaluation items.

    `plain` is the pair among all labels, `fixed` that with the label space held fixed: labels that are new in the batch
    are no answers. `known` (m,) are the items of the other labels. `groups` are the items of each group that is tested.
    """

    targets: Indices
    plain: Pair
    fixed: Pair
    known: Bools
    groups: dict[str, Bools]

    @classmethod
    def of(cls, paired: PairedScores, earlier: torch.Tensor) -> Outcomes:
        """`earlier` (m, C) are the scores of the live head, or of another that the candidate is built on."""
        targets, fresh = paired.targets.cpu().numpy(), list(paired.fresh)
        known = ~np.isin(targets, fresh)
        scores = [as_array(earlier), as_array(paired.candidate)]
        plain = right(scores[0], targets), right(scores[1], targets)
        fixed = plain
        if fresh:
            masked = [each.copy() for each in scores]
            for each in masked:
                each[:, fresh] = NEVER
            fixed = right(masked[0], targets), right(masked[1], targets)
        groups = {
            KNOWN: known,
            HELDOUT: known & np.array([item.heldout for item in paired.items], dtype=bool),
            GOLDEN: np.array([item.golden for item in paired.items], dtype=bool),
            ABSENT: known & ~np.isin(targets, paired.new_targets.cpu().numpy()),
        }
        return cls(targets, plain, fixed, known, groups)

    def pairs(self) -> dict[str, Pair]:
        """By name what is tested: all items, and each group."""
        pairs = {ALL: self.plain}
        for name, rows in self.groups.items():
            # Golden items with every label as an answer: their owner has said what they are, so a label that is new in
            # the batch and takes one is harm, not overlap (ADR 0023).
            before, after = self.plain if name == GOLDEN else self.fixed
            pairs[name] = before[rows], after[rows]
        return pairs

    def of_class(self, column: int) -> Pair:
        """The pair on the items of one class; with the label space held fixed if it is a known one."""
        rows = self.targets == column
        before, after = (
            np.where(self.known, fixed, plain)[rows] for fixed, plain in zip(self.fixed, self.plain, strict=True)
        )
        return before, after

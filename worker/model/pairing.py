"""Live and proposed heads of a task, compared on the same samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pawl.domain.versions import HeadName
from worker.model.change import ModelChange
from worker.model.class_balance import ClassBalance, LabelSpace
from worker.model.evaluation_rows import EvaluationRows
from worker.model.proposal import PairedScores
from worker.model.scored_features import EvaluationScores, StackedScores
from worker.model.stacked_head import StackedHead

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Side:
    """The heads of one side.

    Args:
        stacked: their map to scores.
        scores: what they give the evaluation rows, in as many columns as the candidate has labels.
        counts: samples of each of these columns.
    """

    stacked: StackedHead
    scores: Mapping[HeadName, EvaluationScores]
    counts: Sequence[int]

    def left_out(self, balance: ClassBalance, rows: EvaluationRows, learned: Tensor) -> Tensor:
        """Stacked leave-one-out scores (m, C) of rows, of which the heads hold those that are `learned` (m,)."""
        return balance.leave_one_out(StackedScores(self.scores, self.stacked.stacking), rows, self.counts, learned)


def compare(
    balance: ClassBalance,
    space: LabelSpace,
    rows: EvaluationRows,
    sides: tuple[Side, Side],
    change: ModelChange,
    present: int,
) -> PairedScores:
    """Live and proposed heads.

    Args:
        balance: the prior corrections of both.
        space: labels of the candidate.
        rows: those of the live evaluation set, of which there are `present`, and then new ones.
        sides: the live heads and the candidate's.
        change: between the two.
        present: see `rows`.
    """
    live, candidate = sides
    known = torch.arange(len(rows.items), device=rows.targets.device) < present
    stay = staying(rows, change)
    # Each side leaves out what its own heads hold: the candidate alone has new rows, the live one those that leave.
    before, after = live.left_out(balance, rows, known)[stay], candidate.left_out(balance, rows, stay)[stay]
    old = live.stacked.widened(balance.offsets(live.counts, live.stacked.offsets))
    return PairedScores(
        space.labels,
        [item for item, stays in zip(rows.items, stay.tolist(), strict=True) if stays],
        rows.targets[stay],
        before,
        after,
        torch.tensor([space.index[example.label] for example in change.adds], dtype=torch.int64),
        old.scores_for(change.adds),
        candidate.stacked.scores_for(change.adds),
        tuple(column for column, n in enumerate(live.counts) if not n and candidate.counts[column]),
    )


def staying(rows: EvaluationRows, change: ModelChange) -> Tensor:
    """Which rows do not leave with a change, (m,) bool."""
    leaving = change.leaving
    flags = [item.sample_id not in leaving for item in rows.items]
    return torch.tensor(flags, dtype=torch.bool, device=rows.targets.device)

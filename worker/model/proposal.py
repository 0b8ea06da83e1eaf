"""A head that is proposed to a task's model, and what the gate gets to see of it. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from worker.model.class_balance import NEVER
from worker.model.evaluation_set import EvaluationItem, EvaluationRows, EvaluationScores, EvaluationSet, NewRows
from worker.model.ridge import RankUpdate, RidgeHead

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Scores of the live head and the candidate on the same samples of one task, prior corrections included.

    Args:
        labels: of the C columns.
        items, targets: the m evaluation items, and the column of each one's label (m,).
        live, candidate: leave-one-out scores of the items, (m, C). Columns that the live head lacks hold `NEVER`.
        new_targets, new_live, new_candidate: the same of the k samples that enter, (k,) and (k, C); not left out.
        fresh: columns of labels that the candidate can answer and the live head cannot.
        present: scores (m, C) of the head that a part of a batch is built on; its live head is that from before the
            batch. None for a whole batch.
    """

    labels: tuple[str, ...]
    items: Sequence[EvaluationItem]
    targets: Tensor
    live: Tensor
    candidate: Tensor
    new_targets: Tensor
    new_live: Tensor
    new_candidate: Tensor
    fresh: tuple[int, ...] = ()
    present: Tensor | None = None


@dataclass(frozen=True, slots=True)
class RegularisationChoice:
    """A lambda (features have a squared norm of about 5), and how many samples the head had when it was chosen."""

    value: float
    samples: int


@dataclass(frozen=True, slots=True)
class RankKStep:
    """A small change, worked out beside the model: its update of the head, what it does to the evaluation set.

    `rows` are those of the set and then the `new` ones, `scores` what they have after the update; `stay` (m,) says
    which of them do not leave.
    """

    update: RankUpdate
    new: NewRows
    rows: EvaluationRows
    scores: EvaluationScores
    leaving: frozenset[str]
    stay: Tensor


@dataclass(frozen=True, slots=True)
class Replacement:
    """A head and an evaluation set that take the place of the model's own: the form of every larger change."""

    head: RidgeHead
    evaluation: EvaluationSet


@dataclass(frozen=True, slots=True)
class Proposal:
    """A head that a model may take over by `TaskModel.apply`, as long as it has not changed since.

    Args:
        labels, counts: label and number of samples of each column.
        weights, offsets: W (p, C), and the prior corrections (C,).
        regularisation: its lambda, and the number of samples at which that was chosen.
        temperature: by which its scores are divided to make probabilities.
        paired: what the gate sees of it.
        form: what `apply` does.
        revision: of the model that it was made for.
        emphasis: multiples of the weights of what enters, by sample id; only those that are more than 1.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    weights: Tensor
    offsets: Tensor
    regularisation: RegularisationChoice
    temperature: float
    paired: PairedScores
    form: RankKStep | Replacement
    revision: int
    emphasis: Mapping[str, float] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples in the head."""
        return sum(self.counts)


def without_live(paired: PairedScores, first: PairedScores) -> PairedScores:
    """The scores of a first version, which has no live head to compare with: that side is `NEVER` everywhere.

    `first` has the scores of the samples that enter.
    """
    return replace(
        paired,
        live=torch.full_like(paired.candidate, NEVER),
        new_targets=first.new_targets,
        new_live=torch.full_like(first.new_candidate, NEVER),
        new_candidate=first.new_candidate,
    )

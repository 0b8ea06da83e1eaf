"""Heads that are proposed to a task's model, and what the gate gets to see of them. Values only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.class_balance import NEVER
from worker.model.evaluation_rows import EvaluationItem, EvaluationRows
from worker.model.evaluation_set import EvaluationSet, NewRows
from worker.model.ridge import RankUpdate, RidgeHead
from worker.model.scored_features import EvaluationScores
from worker.model.stacked_head import StackedHead

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class PairedScores:
    """Stacked scores of the live heads and the candidate on the same samples of one task, prior corrections included.

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
class Hyperparameters:
    """What is chosen for a task's heads by their leave-one-out answers.

    Args:
        regularisation: lambda of each head (semantic features have a squared norm of about 5, lexical ones of 1).
        stacking: how much each head counts.
        temperature: by which the stacked scores are divided to make probabilities.
        samples: how many the heads had when lambda and stacking were chosen.
    """

    regularisation: Mapping[HeadName, float]
    stacking: Stacking
    temperature: float
    samples: int = 0


@dataclass(frozen=True, slots=True)
class RankKStep:
    """A small change, worked out beside the model: its update of each head, what it does to the evaluation set.

    `rows` are those of the set and then the `new` ones, `scores` what they have after the update; `stay` (m,) says
    which of them do not leave.
    """

    updates: Mapping[HeadName, RankUpdate]
    new: NewRows
    rows: EvaluationRows
    scores: Mapping[HeadName, EvaluationScores]
    leaving: frozenset[str]
    stay: Tensor

    @property
    def weights(self) -> dict[HeadName, Tensor]:
        """W (p, C) of each head after it."""
        return {name: update.weights for name, update in self.updates.items()}

    def judged(self, _classes: int) -> tuple[EvaluationRows, Mapping[HeadName, EvaluationScores], Tensor | None]:
        """The rows that judge it, what each head gives them, and which of them stay in the set (None: all)."""
        return self.rows, self.scores, self.stay

    def features(self, head: HeadName, size: int, evaluation: EvaluationSet) -> Tensor:
        """The first features of the rows that judge it, (m, size); `evaluation` has those of rows that are not new."""
        return torch.cat([rows[:, :size] for rows in (evaluation.features(head), self.new.features[head].features)])

    def corner(self, head: HeadName, size: int, heads: Mapping[HeadName, RidgeHead]) -> Tensor:
        """The first numbers of the Gram matrix, (size, size), that one of these heads will have."""
        return heads[head].corner(size, self.updates[head].change)

    def diagonal(self, head: HeadName, heads: Mapping[HeadName, RidgeHead]) -> Tensor:
        """The diagonal of the Gram matrix, (p,), that one of these heads will have."""
        return heads[head].diagonal(self.updates[head].change)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Heads and an evaluation set that take the place of the model's own: the form of every larger change."""

    heads: Mapping[HeadName, RidgeHead]
    evaluation: EvaluationSet

    @property
    def weights(self) -> dict[HeadName, Tensor]:
        """W (p, C) of each head."""
        return {name: head.weights for name, head in self.heads.items()}

    def judged(self, classes: int) -> tuple[EvaluationRows, Mapping[HeadName, EvaluationScores], Tensor | None]:
        """As `RankKStep.judged`."""
        return self.evaluation.rows, self.evaluation.scores(classes), None

    def features(self, head: HeadName, size: int, _evaluation: EvaluationSet) -> Tensor:
        """As `RankKStep.features`; its own evaluation set has all."""
        return self.evaluation.features(head)[:, :size]

    def corner(self, head: HeadName, size: int, _heads: Mapping[HeadName, RidgeHead]) -> Tensor:
        """As `RankKStep.corner`."""
        return self.heads[head].corner(size)

    def diagonal(self, head: HeadName, _heads: Mapping[HeadName, RidgeHead]) -> Tensor:
        """As `RankKStep.diagonal`."""
        return self.heads[head].diagonal()


@dataclass(frozen=True, slots=True)
class Proposal:
    """Heads that a model may take over by `TaskModel.apply`, as long as it has not changed since.

    Args:
        labels, counts: label and number of samples of each column.
        stacked: the heads as one map from features to scores.
        hyperparameters: theirs.
        paired: what the gate sees of them.
        form: what `apply` does.
        revision: of the model that it was made for.
        emphasis: multiples of the weights of what enters, by sample id; only those that are more than 1.
    """

    labels: tuple[str, ...]
    counts: tuple[int, ...]
    stacked: StackedHead
    hyperparameters: Hyperparameters
    paired: PairedScores
    form: RankKStep | Replacement
    revision: int
    emphasis: Mapping[str, float] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        """Samples in the heads."""
        return sum(self.counts)

    @property
    def temperature(self) -> float:
        """By which the stacked scores are divided."""
        return self.hyperparameters.temperature

    def at(self, temperature: float) -> Proposal:
        """The same heads at another temperature."""
        return replace(self, hyperparameters=replace(self.hyperparameters, temperature=temperature))


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

"""Everything about one task that learning needs, in memory: its heads, its labels and counts, its evaluation set.

A task has a semantic head, a lexical head or both; every operation is the same for each of them. Changes are proposed
first and applied after the gate has agreed. A proposal holds the next heads beside the present ones; until `apply`
nothing here moves, so a refused one leaves no trace.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace

import torch

from pawl.classifier.calibration import PRIOR_TEMPERATURE
from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.class_balance import ClassBalance, LabelSpace
from worker.model.correction_weight import emphasis_of
from worker.model.evaluation_rows import balanced, evaluation_items
from worker.model.evaluation_set import EvaluationSet
from worker.model.pairing import Side, compare, staying
from worker.model.proposal import Hyperparameters, PairedScores, Proposal, RankKStep, Replacement
from worker.model.ridge import RidgeHead, RowChange
from worker.model.scored_features import EvaluationScores, StackedScores
from worker.model.stacked_head import StackedHead

Tensor = torch.Tensor


class TaskModel:
    """The heads of one task and all that evaluates them.

    Args:
        heads: empty or restored ridge heads, at least one.
        evaluation_limit: most samples in the evaluation set.
        balance: weights of samples and prior corrections by the size of their class.
        emphasis_limit: how many times its weight a correction may count (`worker/model/correction_weight.py`).
    """

    def __init__(
        self,
        heads: Mapping[HeadName, RidgeHead],
        *,
        evaluation_limit: int,
        balance: ClassBalance,
        emphasis_limit: float = 1.0,
    ) -> None:
        self.heads = dict(heads)
        self.evaluation = EvaluationSet.empty(heads)
        self.evaluation_limit = evaluation_limit
        self.labels: list[str] = []
        self.counts: list[int] = []
        self.stacking = Stacking.SEMANTIC if "semantic" in heads else Stacking.LEXICAL
        self.temperature = PRIOR_TEMPERATURE  # what a fit without any samples gives
        self.chosen_at = 0
        self.balance = balance
        self._emphasis_limit = emphasis_limit
        self._revision = 0

    @property
    def revision(self) -> int:
        """Another number after each change."""
        return self._revision

    @property
    def samples(self) -> int:
        """Samples learned."""
        return sum(self.counts)

    @property
    def space(self) -> LabelSpace:
        """Labels and counts as they are."""
        return LabelSpace.of(self.labels, self.counts)

    @property
    def hyperparameters(self) -> Hyperparameters:
        """What was chosen for the heads."""
        regularisation = {name: head.regularisation for name, head in self.heads.items()}
        return Hyperparameters(regularisation, self.stacking, self.temperature, self.chosen_at)

    @property
    def stacked(self) -> StackedHead:
        """The heads as they are, as one map."""
        return self._stacked({name: head.weights for name, head in self.heads.items()}, self.counts, self.stacking)

    def copy(self, *, evaluation_limit: int | None = None) -> TaskModel:
        """An independent copy, if need be with another limit of its evaluation set."""
        other = copy(self)
        other.heads, other.evaluation = copied(self.heads), self.evaluation.copy()
        other.labels, other.counts = list(self.labels), list(self.counts)
        other.evaluation_limit = evaluation_limit or self.evaluation_limit
        return other

    def class_weight(self, count: int) -> float:
        """Weight of each sample of a class with `count` samples."""
        return self.balance.class_weight(count)

    def offsets(self, counts: Sequence[int]) -> Tensor:
        """Prior correction (C,) for these counts."""
        return self.balance.offsets(counts, next(iter(self.heads.values())).weights)

    def reweighted_labels(self, adds: Sequence[str], removes: Sequence[str]) -> list[str]:
        """Labels whose present members change their weight when samples with these labels come and go."""
        after = self.space.after(adds, removes).counts  # present labels keep their columns
        return [
            label
            for label, old, new in zip(self.labels, self.counts, after, strict=False)
            if old and new and self.class_weight(old) != self.class_weight(new)
        ]

    def propose(self, change: ModelChange, *, bulk: bool = False) -> Proposal:
        """Works out the heads after a change; nothing moves. `bulk` refits copies: the way for many rows at once."""
        space = self.space.after((each.label for each in change.adds), (each.label for each in change.removes))
        return self._refitted(change, space) if bulk else self._rank_k(change, space)

    def propose_settings(self, hyperparameters: Hyperparameters | None = None) -> Proposal:
        """The same samples under others, which takes O(p^3) for a new lambda; by default the heads as they are."""
        chosen, changed = hyperparameters or self.hyperparameters, dict[HeadName, RidgeHead]()
        for name, head in self.heads.items():
            if chosen.regularisation[name] != head.regularisation:
                changed[name] = head.copy()
                changed[name].refit(chosen.regularisation[name])
        form = Replacement({**self.heads, **changed}, self.evaluation.rescored(changed))
        scores = self.evaluation.scores(len(self.labels)), form.evaluation.scores(len(self.labels))
        sides = (
            Side(self.stacked, scores[0], self.counts),
            Side(self._stacked(form.weights, self.counts, chosen.stacking), scores[1], self.counts),
        )
        paired = compare(self.balance, self.space, self.evaluation.rows, sides, ModelChange(), len(self.evaluation))
        return self._proposal(form, self.space, paired, chosen)

    def replacing(self, form: Replacement, space: LabelSpace, paired: PairedScores) -> Proposal:
        """The proposal of other heads and another evaluation set, which must not change any more."""
        return self._proposal(form, space, paired, self.hyperparameters)

    def becoming(self, after: TaskModel, paired: PairedScores) -> Proposal:
        """The proposal to take over what another model, a copy of this one, has learned since."""
        return self.replacing(Replacement(after.heads, after.evaluation), after.space, paired)

    def apply(self, proposal: Proposal) -> None:
        """Takes a proposal over. Raises `ValueError` if the model has changed since the proposal was made."""
        if proposal.revision != self._revision:  # it would undo what came in between
            raise ValueError("the model has changed since this was proposed to it")
        form = proposal.form
        if isinstance(form, RankKStep):
            for name, update in form.updates.items():
                self.heads[name].apply(update)
            # Append before drop: the step's scores are of all rows, also of those that leave with it.
            self.evaluation.append(form.new, form.scores)
            self.evaluation.drop(form.leaving)
        else:
            self.heads, self.evaluation = dict(form.heads), form.evaluation
        self.labels, self.counts = list(proposal.labels), list(proposal.counts)
        self._take(proposal.hyperparameters)
        # Last: rows that leave anyway must not push others out of a full set.
        self.evaluation.trim(self.evaluation_limit)
        self._revision += 1

    def restore(self, counts: Mapping[str, int], hyperparameters: Hyperparameters | None = None) -> None:
        """Gives an empty model its labels, each with its number of samples; `restore` of the heads or `absorb` fills
        them. Their lambdas are as they were made.
        """
        self.labels, self.counts = list(counts), list(counts.values())
        if hyperparameters is not None:
            self._take(hyperparameters)
        self._revision += 1

    def absorb(self, examples: Sequence[LabelledFeatures]) -> None:
        """Adds samples that `restore` has counted to the statistics; `refit` must follow."""
        if examples:
            index, levels = self.space.index, [self.class_weight(count) for count in self.counts]
            # `restore` has counted these: each enters at once with the weight of its class as it is in the end.
            for name, head in self.heads.items():
                head.absorb(ModelChange(examples).rows(name, index, levels, levels), len(self.labels))
            self._revision += 1

    def refit(self) -> None:
        """Makes the heads of their statistics; O(p^3)."""
        for head in self.heads.values():
            head.refit()
        self._revision += 1

    def add_to_evaluation(self, examples: Sequence[LabelledFeatures]) -> None:
        """Puts learned samples into the evaluation set after a restart, and golden ones, which are never learned."""
        new = self.evaluation.new_rows(examples, self.space.index, self.evaluation_limit, self.heads)
        self.evaluation.append(new, self.evaluation.scores_with(new, self.heads, len(self.labels)))
        self.evaluation.trim(self.evaluation_limit)
        self._revision += 1

    def drop_from_evaluation(self, sample_ids: Collection[str]) -> None:
        """Takes samples out of the evaluation set; the heads keep them."""
        self.evaluation.drop(sample_ids)
        self._revision += 1

    def best_for_evaluation(self, examples: Sequence[LabelledFeatures]) -> list[LabelledFeatures]:
        """Of these, those that stay in a full evaluation set."""
        return [examples[row] for row in balanced(evaluation_items(examples, self.space.index), self.evaluation_limit)]

    def leave_one_out(self, proposal: Proposal | None = None, *, head: HeadName | None = None) -> Tensor:
        """Leave-one-out scores (m, C) of the evaluation items, by the heads together or by one alone.

        Of a proposal those of the items that stay with it (see `targets`); what it was judged on may be other ones:
        golden samples have come since.
        """
        form = Replacement(self.heads, self.evaluation) if proposal is None else proposal.form
        counts = self.counts if proposal is None else proposal.counts
        stacking = self.stacking if proposal is None else proposal.stacked.stacking
        rows, by_head, stay = form.judged(len(counts))
        left_out = self.balance.leave_one_out(
            StackedScores(by_head, stacking) if head is None else by_head[head], rows, counts, stay
        )
        return left_out if stay is None else left_out[stay]

    def targets(self, proposal: Proposal | None = None) -> Tensor:
        """Column of the label of each row of `leave_one_out`, (m,)."""
        form = Replacement(self.heads, self.evaluation) if proposal is None else proposal.form
        rows, _, stay = form.judged(len(self.counts if proposal is None else proposal.counts))
        return rows.targets if stay is None else rows.targets[stay]

    def _rank_k(self, change: ModelChange, space: LabelSpace) -> Proposal:
        moved = {name: self._moved(name, change, space) for name in self.heads}
        # For emphasis, evaluation and step: A^-1 is read once.
        gains = {name: head.gain(moved[name].features) for name, head in self.heads.items()}
        leverages = {name: gain.leverages for name, gain in gains.items()}
        emphasis: dict[str, float] = {}
        if self.samples:
            emphasis = emphasis_of(change, self.stacked, leverages, space, self.balance, self._emphasis_limit)
        if emphasis:
            # Emphasis changes weights alone, so the gain, which is of the features, stays right.
            change = change.emphasised(emphasis)
            moved = {name: self._moved(name, change, space) for name in self.heads}
        classes = len(space.labels)
        updates = {name: head.propose(moved[name], classes, gains[name]) for name, head in self.heads.items()}
        new = self.evaluation.new_rows(change.adds, space.index, self.evaluation_limit, self.heads, leverages)
        rows = self.evaluation.rows.plus(new.rows)
        before = self.evaluation.scores_with(new, self.heads, classes)
        after = self.evaluation.scores_after(updates, new, before)
        form = RankKStep(updates, new, rows, after, change.leaving, staying(rows, change))
        return replace(self._changed(form, before, space, change), emphasis=emphasis)

    def _refitted(self, change: ModelChange, space: LabelSpace) -> Proposal:
        heads, evaluation, classes = copied(self.heads), self.evaluation.copy(), len(space.labels)
        for name, head in heads.items():  # one after the other: the rows of a large import are most of its memory
            head.absorb(self._moved(name, change, space), classes)
            head.refit()
        new = self.evaluation.new_rows(change.adds, space.index, self.evaluation_limit, self.heads)
        before = evaluation.scores_with(new, self.heads, classes)
        evaluation.append(new, before)
        evaluation.recompute(heads)
        proposal = self._changed(Replacement(heads, evaluation), before, space, change)
        evaluation.drop(change.leaving)  # not before: the comparison takes the model's own rows to be the first ones
        return proposal

    def _changed(
        self,
        form: RankKStep | Replacement,
        before: Mapping[HeadName, EvaluationScores],
        space: LabelSpace,
        change: ModelChange,
    ) -> Proposal:
        """The proposal of a change; `before` are the scores under the present heads of the rows that `form` judges."""
        rows, after, _ = form.judged(len(space.labels))
        sides = (
            Side(self.stacked, before, self.space.widened(len(space.labels))),
            Side(self._stacked(form.weights, space.counts, self.stacking), after, space.counts),
        )
        paired = compare(self.balance, space, rows, sides, change, len(self.evaluation))
        return self._proposal(form, space, paired, self.hyperparameters)

    def _proposal(
        self, form: RankKStep | Replacement, space: LabelSpace, paired: PairedScores, chosen: Hyperparameters
    ) -> Proposal:
        stacked = self._stacked(form.weights, space.counts, chosen.stacking)
        return Proposal(space.labels, space.counts, stacked, chosen, paired, form, self._revision)

    def _stacked(self, weights: Mapping[HeadName, Tensor], counts: Sequence[int], stacking: Stacking) -> StackedHead:
        offsets = self.offsets(counts)
        # Labels are there before their columns where `restore` has named them and no sample has come yet.
        return StackedHead(weights, stacking, offsets).widened(offsets)

    def _moved(self, head: HeadName, change: ModelChange, space: LabelSpace) -> RowChange:
        old = [self.class_weight(count) for count in self.space.widened(len(space.labels))]
        new = [self.class_weight(count) for count in space.counts]
        return change.rows(head, space.index, old, new)

    def _take(self, chosen: Hyperparameters) -> None:
        if len(self.heads) > 1:  # a head alone has all of the score, whatever another encoder's heads were given
            self.stacking = chosen.stacking
        self.temperature, self.chosen_at = chosen.temperature, chosen.samples


def copied(heads: Mapping[HeadName, RidgeHead]) -> dict[HeadName, RidgeHead]:
    """Independent copies."""
    return {name: head.copy() for name, head in heads.items()}

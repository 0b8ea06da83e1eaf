"""What the learner knows of one task: a ridge head, the samples that evaluate it, class counts and calibration.

A change is proposed (nothing moves), judged by the gate, published, and only then applied. A proposal that is refused,
or whose publication fails, is dropped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from copy import copy
from dataclasses import replace

import torch

from pawl.classifier.novelty import Novelty
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.class_balance import ClassBalance, LabelSpace
from worker.model.correction_weight import emphasis_of
from worker.model.evaluation_set import EvaluationRows, EvaluationScores, EvaluationSet, balanced, evaluation_items
from worker.model.novelty_reference import measure
from worker.model.proposal import PairedScores, Proposal, RankKStep, RegularisationChoice, Replacement
from worker.model.ridge import RidgeHead, RowChange

Tensor = torch.Tensor


class TaskModel:
    """The head of one task and all that evaluates it.

    Args:
        head: an empty or restored ridge head.
        evaluation_limit: most samples in the evaluation set.
        balance: weights of samples and prior corrections by the size of their class.
        emphasis_limit: how many times its weight a correction may count (`worker/model/correction_weight.py`).
    """

    def __init__(
        self, head: RidgeHead, *, evaluation_limit: int, balance: ClassBalance, emphasis_limit: float = 1.0
    ) -> None:
        self.head = head
        self.evaluation = EvaluationSet.empty(head)
        self.evaluation_limit = evaluation_limit
        self.labels: list[str] = []
        self.counts: list[int] = []
        self.temperature = 0.1  # PRIOR_TEMPERATURE: what a fit without any samples gives
        self.regularisation_chosen_at = 0
        self.balance = balance
        self._emphasis_limit = emphasis_limit
        self._revision = 0

    @property
    def samples(self) -> int:
        """Samples learned."""
        return sum(self.counts)

    @property
    def space(self) -> LabelSpace:
        """Labels and counts as they are."""
        return LabelSpace.of(self.labels, self.counts)

    @property
    def regularisation(self) -> RegularisationChoice:
        """lambda, and the number of samples at which it was chosen."""
        return RegularisationChoice(self.head.regularisation, self.regularisation_chosen_at)

    def copy(self, *, evaluation_limit: int | None = None) -> TaskModel:
        """An independent copy, if need be with another limit of its evaluation set."""
        other = copy(self)
        other.head, other.evaluation = self.head.copy(), self.evaluation.copy()
        other.labels, other.counts = list(self.labels), list(self.counts)
        other.evaluation_limit = evaluation_limit or self.evaluation_limit
        return other

    def class_weight(self, count: int) -> float:
        """Weight of each sample of a class with `count` samples."""
        return self.balance.class_weight(count)

    def offsets(self, counts: Sequence[int]) -> Tensor:
        """Prior correction (C,) for these counts."""
        return self.balance.offsets(counts, self.head.weights)

    def reweighted_labels(self, adds: Sequence[str], removes: Sequence[str]) -> list[str]:
        """Labels whose present members change their weight when samples with these labels come and go."""
        after = self.space.after(adds, removes).counts  # present labels keep their columns
        return [
            label
            for label, old, new in zip(self.labels, self.counts, after, strict=False)
            if old and new and self.class_weight(old) != self.class_weight(new)
        ]

    def propose(self, change: ModelChange, *, bulk: bool = False) -> Proposal:
        """Works out the head after a change; nothing moves. `bulk` refits a copy: the way for many rows at once."""
        space = self.space.after((each.label for each in change.adds), (each.label for each in change.removes))
        return self._refitted(change, space) if bulk else self._rank_k(change, space)

    def propose_settings(
        self, *, regularisation: RegularisationChoice | None = None, temperature: float | None = None
    ) -> Proposal:
        """The same samples under another lambda, which takes O(p^3), or temperature; by default the head as it is."""
        choice = regularisation or self.regularisation
        head, evaluation = self.head, self.evaluation
        if choice.value != head.regularisation:
            head = head.copy()
            head.refit(choice.value)
            evaluation = evaluation.rescored(head)
        scores = self.evaluation.scores(head.classes), evaluation.scores(head.classes)
        paired = self._paired(ModelChange(), self.space, evaluation.rows, scores, head.weights)
        proposal = self.replacing(Replacement(head, evaluation), self.space, paired)
        return replace(proposal, regularisation=choice, temperature=temperature or self.temperature)

    def replacing(self, form: Replacement, space: LabelSpace, paired: PairedScores) -> Proposal:
        """The proposal of another head and evaluation set, which must not change any more."""
        return self._proposal(space, form.head.weights, paired, form)

    def becoming(self, after: TaskModel, paired: PairedScores) -> Proposal:
        """The proposal to take over what another model, a copy of this one, has learned since."""
        return self.replacing(Replacement(after.head, after.evaluation), after.space, paired)

    def apply(self, proposal: Proposal) -> None:
        """Takes a proposal over. Raises `ValueError` if the model has changed since the proposal was made."""
        if proposal.revision != self._revision:  # it would undo what came in between
            raise ValueError("the model has changed since this was proposed to it")
        form = proposal.form
        if isinstance(form, RankKStep):
            self.head.apply(form.update)
            # Append before drop: the step's scores are of all rows, also of those that leave with it.
            self.evaluation.append(form.new, form.scores)
            self.evaluation.drop(form.leaving)
        else:
            self.head, self.evaluation = form.head, form.evaluation
        self.labels, self.counts = list(proposal.labels), list(proposal.counts)
        self.temperature, self.regularisation_chosen_at = proposal.temperature, proposal.regularisation.samples
        # Last: rows that leave anyway must not push others out of a full set.
        self.evaluation.trim(self.evaluation_limit)
        self._revision += 1

    def novelty(self, dimension: int, proposal: Proposal | None = None) -> Novelty:
        """How unusual a text is to the head, or to a proposed one, by the first numbers of z and the scores."""
        form = Replacement(self.head, self.evaluation) if proposal is None else proposal.form
        counts = self.counts if proposal is None else proposal.counts
        if isinstance(form, RankKStep):
            # The Gram matrix of z_0 is the corner of that of phi, which begins with z_0: nothing of its own is kept.
            gram = self.head.corner(dimension, form.update.change)
            z = torch.cat([rows.features[:, :dimension] for rows in (self.evaluation, form.new)])
            weights = self.balance.item_weights(form.rows, counts, form.stay)
            scores = self.balance.leave_one_out(form.scores, form.rows, counts, form.stay)
            return measure(gram, z[form.stay], weights[form.stay], scores[form.stay])
        scores = self.balance.leave_one_out(form.evaluation.scores(form.head.classes), form.evaluation.rows, counts)
        weights = self.balance.item_weights(form.evaluation.rows, counts)
        return measure(form.head.corner(dimension), form.evaluation.features[:, :dimension], weights, scores)

    def restore(self, counts: Mapping[str, int], chosen_at: int = 0, temperature: float | None = None) -> None:
        """Gives an empty model its labels, each with its number of samples; `head.restore` or `absorb` fills the head.

        `chosen_at` is the number of samples at which lambda was chosen.
        """
        self.labels, self.counts = list(counts), list(counts.values())
        self.regularisation_chosen_at, self.temperature = chosen_at, temperature or self.temperature
        self._revision += 1

    def absorb(self, examples: Sequence[LabelledFeatures]) -> None:
        """Adds samples that `restore` has counted to the statistics; `refit` must follow."""
        if examples:
            index, levels = self.space.index, [self.class_weight(count) for count in self.counts]
            # `restore` has counted these: each enters at once with the weight of its class as it is in the end.
            self.head.absorb(ModelChange(examples).rows(index, levels, levels), len(self.labels))
            self._revision += 1

    def refit(self) -> None:
        """Makes the head of its statistics; O(p^3)."""
        self.head.refit()
        self._revision += 1

    def add_to_evaluation(self, examples: Sequence[LabelledFeatures]) -> None:
        """Puts learned samples into the evaluation set after a restart, and golden ones, which are never learned."""
        new = self.evaluation.new_rows(examples, self.space.index, self.evaluation_limit, self.head)
        self.evaluation.append(new, self.evaluation.scores_with(new, self.head, self.head.classes))
        self.evaluation.trim(self.evaluation_limit)
        self._revision += 1

    def drop_from_evaluation(self, sample_ids: Collection[str]) -> None:
        """Takes samples out of the evaluation set; the head keeps them."""
        self.evaluation.drop(sample_ids)
        self._revision += 1

    def best_for_evaluation(self, examples: Sequence[LabelledFeatures]) -> list[LabelledFeatures]:
        """Of these, those that stay in a full evaluation set."""
        return [examples[row] for row in balanced(evaluation_items(examples, self.space.index), self.evaluation_limit)]

    def leave_one_out(self, scores: EvaluationScores | None = None) -> Tensor:
        """Leave-one-out scores (m, C) of the evaluation set, by its own scores or by those of another head."""
        return self.balance.leave_one_out(
            scores or self.evaluation.scores(self.head.classes), self.evaluation.rows, self.counts
        )

    def _rank_k(self, change: ModelChange, space: LabelSpace) -> Proposal:
        moved = self._moved(change, space)
        gain = self.head.gain(moved.features)  # for emphasis, evaluation and step: A^-1 is read once
        emphasis: dict[str, float] = {}
        if self.samples:
            emphasis = emphasis_of(change, self.head, gain.leverages, space, self.balance, self._emphasis_limit)
        if emphasis:
            # Emphasis changes weights alone, so the gain, which is of the features, stays right.
            change = change.emphasised(emphasis)
            moved = self._moved(change, space)
        update = self.head.propose(moved, len(space.labels), gain)
        new = self.evaluation.new_rows(change.adds, space.index, self.evaluation_limit, self.head, gain.leverages)
        rows = self.evaluation.rows.plus(new.rows)
        before = self.evaluation.scores_with(new, self.head, len(space.labels))
        after = self.evaluation.scores_after(update, new, before)
        paired = self._paired(change, space, rows, (before, after), update.weights)
        form = RankKStep(update, new, rows, after, change.leaving, _staying(rows, change))
        return replace(self._proposal(space, update.weights, paired, form), emphasis=emphasis)

    def _refitted(self, change: ModelChange, space: LabelSpace) -> Proposal:
        head, evaluation = self.head.copy(), self.evaluation.copy()
        head.absorb(self._moved(change, space), len(space.labels))
        head.refit()
        new = self.evaluation.new_rows(change.adds, space.index, self.evaluation_limit, self.head)
        before = evaluation.scores_with(new, self.head, len(space.labels))
        evaluation.append(new, before)
        evaluation.recompute(head)
        scores = (before, evaluation.scores(len(space.labels)))
        paired = self._paired(change, space, evaluation.rows, scores, head.weights)
        evaluation.drop(change.leaving)  # not before: `_paired` takes the model's own rows to be the first ones
        return self.replacing(Replacement(head, evaluation), space, paired)

    def _proposal(
        self, space: LabelSpace, weights: Tensor, paired: PairedScores, form: RankKStep | Replacement
    ) -> Proposal:
        return Proposal(
            labels=space.labels,
            counts=space.counts,
            weights=weights,
            offsets=self.offsets(space.counts),
            regularisation=self.regularisation,
            temperature=self.temperature,
            paired=paired,
            form=form,
            revision=self._revision,
        )

    def _moved(self, change: ModelChange, space: LabelSpace) -> RowChange:
        old = [self.class_weight(count) for count in self.space.widened(len(space.labels))]
        new = [self.class_weight(count) for count in space.counts]
        return change.rows(space.index, old, new)

    def _paired(
        self,
        change: ModelChange,
        space: LabelSpace,
        rows: EvaluationRows,
        scores: tuple[EvaluationScores, EvaluationScores],
        weights: Tensor,
    ) -> PairedScores:
        """Live and proposed head, by their scores for `rows` (those of the set, then new ones) and W of the latter."""
        padded = self.space.widened(len(space.labels))
        present = torch.arange(len(rows.items), device=rows.targets.device) < len(self.evaluation)
        stay = _staying(rows, change)
        # Each side leaves out what its own head holds: the candidate alone has new rows, the live one those that leave.
        live = self.balance.leave_one_out(scores[0], rows, padded, present)
        candidate = self.balance.leave_one_out(scores[1], rows, space.counts, stay)
        targets, features = torch.zeros(0, dtype=torch.int64), weights.new_zeros(0, len(weights))
        if change.adds:
            features = torch.stack([example.features for example in change.adds]).to(weights)
            targets = torch.tensor([space.index[example.label] for example in change.adds])
        old = torch.nn.functional.pad(self.head.weights, (0, len(space.labels) - self.head.classes))
        return PairedScores(
            space.labels,
            [item for item, stays in zip(rows.items, stay.tolist(), strict=True) if stays],
            rows.targets[stay],
            live[stay],
            candidate[stay],
            targets,
            features @ old + self.offsets(padded),
            features @ weights + self.offsets(space.counts),
            tuple(column for column, n in enumerate(padded) if not n and space.counts[column]),
        )


def _staying(rows: EvaluationRows, change: ModelChange) -> Tensor:
    """Which rows do not leave with a change, (m,) bool."""
    leaving = change.leaving
    flags = [item.sample_id not in leaving for item in rows.items]
    return torch.tensor(flags, dtype=torch.bool, device=rows.targets.device)

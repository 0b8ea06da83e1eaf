"""A task's heads after a change of its labels: columns renamed, added together or taken out, exactly, in each head.

W is linear in B, so two columns become one by adding them (B_a + B_b, W_a + W_b) as long as no sample changes its
weight. Where a class with fewer than n0 samples is merged, its samples (and the other's, if that is young too) change
from the weight of their old class to that of the new one; those rows, of which there are at most 2 n0, enter the
statistics with the difference, and the head is solved anew. A retired class takes its rows out of the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch

from pawl.domain.versions import HeadName
from worker.model.change import LabelledFeatures, stacked
from worker.model.class_balance import NEVER, LabelSpace
from worker.model.proposal import PairedScores, Proposal, Replacement
from worker.model.ridge import RidgeHead, RowChange
from worker.model.scored_features import StackedScores
from worker.model.task_model import TaskModel, copied

Tensor = torch.Tensor


def reweighted(model: TaskModel, old: str, new: str) -> list[str]:
    """Of two labels to be merged those whose samples change their weight; `propose_rename` needs them."""
    counts = dict(zip(model.labels, model.counts, strict=True))
    merged = model.class_weight(counts.get(old, 0) + counts.get(new, 0))
    return [label for label in (old, new) if counts.get(label) and model.class_weight(counts[label]) != merged]


def propose_rename(model: TaskModel, old: str, new: str, members: Mapping[str, Sequence[LabelledFeatures]]) -> Proposal:
    """Column `old` is called `new` or, where there is one of that name already, is added to it.

    `members` are all samples in the head of the labels in `reweighted`.
    """
    space = model.space
    if new not in space.index:
        labels = [new if label == old else label for label in space.labels]
        form = Replacement(model.heads, model.evaluation)
        return _proposal(model, form, (LabelSpace.of(labels, space.counts), range(len(labels))))
    heads = copied(model.heads)
    merged = model.class_weight(space.counts[space.index[old]] + space.counts[space.index[new]])
    moved = [
        (space.index[label], example, example.weight * (merged - model.class_weight(space.counts[space.index[label]])))
        for label in reweighted(model, old, new)
        for example in members[label]
    ]
    if moved:
        columns, examples, weights = zip(*moved, strict=True)
        _absorb(heads, examples, columns, weights)
    # Without moved rows W folds exactly with B, and A has not changed: no O(p^3).
    return _folded(model, heads, _without(space, {old}, into=new), refit=bool(moved))


def propose_without_empty(model: TaskModel) -> Proposal | None:
    """The heads without the columns of labels that have no sample any more; None where there is no such label."""
    space = model.space
    empty = {label for label, count in zip(space.labels, space.counts, strict=True) if not count}
    return _folded(model, copied(model.heads), _without(space, empty), refit=True) if empty else None


class Retirement:
    """Takes a label's samples out of copies of the heads, a page at a time, and then its column."""

    def __init__(self, model: TaskModel, label: str) -> None:
        self._model = model
        self._heads = copied(model.heads)
        self._label = label
        self._column = model.labels.index(label)
        self._left = model.counts[self._column]

    def take_out(self, examples: Sequence[LabelledFeatures]) -> None:
        """Takes these samples out of the statistics."""
        if not examples:
            return
        level = self._model.class_weight(self._model.counts[self._column])
        columns, weights = [self._column] * len(examples), [-example.weight * level for example in examples]
        _absorb(self._heads, examples, columns, weights)
        self._left -= len(examples)

    def propose(self) -> Proposal:
        """The heads without the label. Raises `RuntimeError` when not all its samples were taken out."""
        if self._left:
            raise RuntimeError(f"{self._left} samples of {self._label!r} are in the heads, but not in the store")
        moved = _without(self._model.space, {self._label})
        return _folded(self._model, self._heads, moved, refit=True, retired=self._label)


def _absorb(
    heads: Mapping[HeadName, RidgeHead],
    examples: Sequence[LabelledFeatures],
    columns: Sequence[int],
    weights: Sequence[float],
) -> None:
    """Adds rows to the statistics of the heads."""
    classes, signed = torch.tensor(columns), torch.tensor(weights, dtype=torch.float64)
    for name, features in stacked(examples, heads).items():
        heads[name].absorb(RowChange(features, classes, signed), heads[name].classes)


def _without(space: LabelSpace, leaving: Collection[str], into: str | None = None) -> tuple[LabelSpace, list[int]]:
    """The labels without some, whose samples go `into` another or are gone; and each old column's new one, or -1."""
    counts = {label: n for label, n in zip(space.labels, space.counts, strict=True) if label not in leaving}
    if into is not None:
        counts[into] += sum(space.counts[space.index[label]] for label in leaving)
    after = LabelSpace.of([*counts], [*counts.values()])
    elsewhere = -1 if into is None else after.index[into]
    return after, [after.index.get(label, elsewhere) for label in space.labels]


def _folded(
    model: TaskModel,
    heads: Mapping[HeadName, RidgeHead],
    moved: tuple[LabelSpace, Sequence[int]],
    *,
    refit: bool,
    retired: str | None = None,
) -> Proposal:
    """Proposes `heads`, copies of the model's, with their columns where `_without` says."""
    after, places = moved
    # The matrix M (C, C') of `RidgeHead.fold`: a row of zeros lets its column go.
    columns = torch.zeros(len(places), len(after.labels))
    for column, place in enumerate(places):
        if place >= 0:
            columns[column, place] = 1.0
    for head in heads.values():
        head.fold(columns)
        if refit:
            head.refit()
    evaluation = model.evaluation.copy()
    evaluation.drop({item.sample_id for item in evaluation.items if places[item.class_index] < 0})
    evaluation.renumber(places)
    evaluation.recompute(heads)
    return _proposal(model, Replacement(heads, evaluation), moved, retired)


def _proposal(
    model: TaskModel, form: Replacement, moved: tuple[LabelSpace, Sequence[int]], retired: str | None = None
) -> Proposal:
    """Pairs both heads in the new label space.

    The live one's answer is right where it named any label that the right one stands for. A retired label keeps a
    column, the last, in which the candidate has `NEVER`.
    """
    after, places = moved
    # By id, not position: the copy has filled the gaps of what it dropped with rows from its end.
    rows = {item.sample_id: row for row, item in enumerate(model.evaluation.items)}
    before = model.leave_one_out()[[rows[item.sample_id] for item in form.evaluation.items]]
    labels = after.labels if retired is None else (*after.labels, retired)
    # Below what a column with the offset NEVER has, so that the maximum is always of a real column.
    live = before.new_full((len(before), len(labels)), 2 * NEVER)
    for column, place in enumerate(places):
        if place >= 0 or retired is not None:
            live[:, place] = torch.maximum(live[:, place], before[:, column])  # -1, the retired, is the last
    scores = StackedScores(form.evaluation.scores(len(after.labels)), model.stacking)
    candidate = model.balance.leave_one_out(scores, form.evaluation.rows, after.counts)
    candidate = torch.nn.functional.pad(candidate, (0, len(labels) - len(after.labels)), value=NEVER)
    none, empty = torch.zeros(0, dtype=torch.int64), before.new_zeros(0, len(labels))
    items, targets = form.evaluation.items, form.evaluation.targets
    return model.replacing(form, after, PairedScores(labels, items, targets, live, candidate, none, empty, empty))

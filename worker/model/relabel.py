"""A task's head after a change of its labels: columns renamed, added together or taken out, exactly.

W is linear in B, so two columns become one by adding them (B_a + B_b, W_a + W_b) as long as no sample changes its
weight. Where a class with fewer than n0 samples is merged, its samples (and the other's, if that is young too) change
from the weight of their old class to that of the new one; those rows, of which there are at most 2 n0, enter the
statistics with the difference, and the head is solved anew. A retired class takes its rows out of the Gram matrix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from worker.model.change import LabelledFeatures
from worker.model.class_balance import NEVER
from worker.model.proposal import PairedScores, Proposal
from worker.model.ridge import RowChange
from worker.model.task_model import TaskModel

Tensor = torch.Tensor


def reweighted(model: TaskModel, old: str, new: str) -> list[str]:
    """Of two labels to be merged those whose samples change their weight; `propose_rename` needs them."""
    counts = dict(zip(model.labels, model.counts, strict=True))
    merged = model.level(counts.get(old, 0) + counts.get(new, 0))
    return [label for label in (old, new) if counts.get(label) and model.level(counts[label]) != merged]


def propose_rename(model: TaskModel, old: str, new: str, members: Mapping[str, Sequence[LabelledFeatures]]) -> Proposal:
    """Column `old` is called `new` or, where there is one of that name already, is added to it.

    `members` are all samples in the head of the labels in `reweighted`.
    """
    after = model.copy()
    if new not in after.labels:
        after.labels[after.labels.index(old)] = new
        return model.becoming(after, _paired(model, after, list(range(len(after.labels)))))
    rows = _reweighting(model, old, new, members)
    if rows is not None:
        after.head.absorb(rows, len(after.labels))
    gone, target = after.labels.index(old), after.labels.index(new)
    after.counts[target] += after.counts[gone]
    places = _without(after, gone, target)
    if rows is not None:
        after.head.refit()
    after.evaluation.recompute(after.head)
    return model.becoming(after, _paired(model, after, places))


def propose_without_empty(model: TaskModel) -> Proposal | None:
    """The head without the columns of labels that have no sample any more; None where there is no such label."""
    after = model.copy()
    places = list(range(len(model.labels)))
    for label in [label for label, count in zip(model.labels, model.counts, strict=True) if not count]:
        gone = after.labels.index(label)
        after.evaluation.drop([item.sample_id for item in after.evaluation.items if item.class_index == gone])
        moved = _without(after, gone, None)
        places = [moved[place] if place >= 0 else -1 for place in places]
    if len(after.labels) == len(model.labels):
        return None
    after.head.refit()
    after.evaluation.recompute(after.head)
    return model.becoming(after, _paired(model, after, places))


class Retirement:
    """Takes a label's samples out, a page at a time, and then its column."""

    def __init__(self, model: TaskModel, label: str) -> None:
        self._live = model
        self._after = model.copy()
        self._label = label
        self._column = model.labels.index(label)
        self._level = model.level(model.counts[self._column])

    def take_out(self, examples: Sequence[LabelledFeatures]) -> None:
        """Takes these samples out of the statistics."""
        if not examples:
            return
        weights = [-example.weight * self._level for example in examples]
        rows = RowChange(
            torch.stack([example.features for example in examples]),
            torch.full((len(examples),), self._column, dtype=torch.int64),
            torch.tensor(weights, dtype=torch.float64),
        )
        self._after.head.absorb(rows, len(self._after.labels))
        self._after.counts[self._column] -= len(examples)

    def propose(self) -> Proposal:
        """The head without the label. Raises `RuntimeError` when not all its samples were taken out."""
        after, left = self._after, self._after.counts[self._column]
        if left:
            raise RuntimeError(f"{left} samples of {self._label!r} are in the head, but not in the store")
        own = [item.sample_id for item in after.evaluation.items if item.class_index == self._column]
        after.evaluation.drop(own)
        places = _without(after, self._column, None)
        after.head.refit()
        after.evaluation.recompute(after.head)
        return self._live.becoming(after, _paired(self._live, after, places, retired=self._label))


def _without(model: TaskModel, gone: int, target: int | None) -> list[int]:
    """Takes a column away, added to another or not; returns the new place of each old one (-1 for none)."""
    stay = [column for column in range(len(model.labels)) if column != gone]
    places = [stay.index(column) if column != gone else -1 for column in range(len(model.labels))]
    if target is not None:
        places[gone] = places[target]
    columns = torch.zeros(len(places), len(stay))
    for column, place in enumerate(places):
        if place >= 0:
            columns[column, place] = 1.0
    model.head.fold(columns)
    model.evaluation.renumber(places)
    model.labels = [model.labels[column] for column in stay]
    model.counts = [model.counts[column] for column in stay]
    return places


def _reweighting(
    model: TaskModel, old: str, new: str, members: Mapping[str, Sequence[LabelledFeatures]]
) -> RowChange | None:
    counts = dict(zip(model.labels, model.counts, strict=True))
    merged = model.level(counts[old] + counts[new])
    rows = [(label, example) for label in reweighted(model, old, new) for example in members[label]]
    if not rows:
        return None
    return RowChange(
        torch.stack([example.features for _, example in rows]),
        torch.tensor([model.labels.index(label) for label, _ in rows], dtype=torch.int64),
        torch.tensor(
            [example.weight * (merged - model.level(counts[label])) for label, example in rows], dtype=torch.float64
        ),
    )


def _paired(live: TaskModel, after: TaskModel, places: Sequence[int], retired: str | None = None) -> PairedScores:
    """Both heads in the new label space: the live one's answer is right where it named any label that the right one
    stands for. A retired label keeps a column, the last, in which the candidate has `NEVER`.
    """
    rows = {item.sample_id: row for row, item in enumerate(live.evaluation.items)}
    before = live.leave_one_out()[[rows[item.sample_id] for item in after.evaluation.items]]
    labels = [*after.labels, *([retired] if retired is not None else [])]
    folded = before.new_full((len(before), len(labels)), 2 * NEVER)
    for column, place in enumerate(places):
        if place < 0 and retired is None:
            continue
        folded[:, place] = torch.maximum(folded[:, place], before[:, column])  # -1, the retired, is the last
    candidate = torch.nn.functional.pad(after.leave_one_out(), (0, len(labels) - len(after.labels)), value=NEVER)
    none, empty = torch.zeros(0, dtype=torch.int64), before.new_zeros(0, len(labels))
    return PairedScores(
        tuple(labels), list(after.evaluation.items), after.evaluation.targets, folded, candidate, none, empty, empty
    )

"""The evaluation set: stored samples that judge every candidate by predictions made without their own label.

What each head says of them is in `worker/model/scored_features.py`; the rows are the same for all heads of a task. Only
samples that no encoder was trained on may be in it (design invariant 8).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pawl.domain.versions import HeadName
from worker.model.change import LabelledFeatures, stacked
from worker.model.evaluation_rows import EvaluationItem, EvaluationRows, balanced, evaluation_items
from worker.model.ridge import RankUpdate, RidgeHead
from worker.model.scored_features import EvaluationScores, NewFeatures, ScoredFeatures

Tensor = torch.Tensor
Heads = Mapping[HeadName, RidgeHead]
Scores = Mapping[HeadName, EvaluationScores]


@dataclass(frozen=True, slots=True)
class NewRows:
    """Rows that are evaluated beside those of a set and may enter it, with their features for each head."""

    rows: EvaluationRows
    features: Mapping[HeadName, NewFeatures]


class EvaluationSet:
    """Samples, and what each head says of them."""

    def __init__(self, rows: EvaluationRows, scored: Mapping[HeadName, ScoredFeatures]) -> None:
        self.rows = rows
        self._scored = dict(scored)

    @classmethod
    def empty(cls, heads: Heads) -> EvaluationSet:
        """A set without samples, for features and classes of these heads."""
        scored = {name: ScoredFeatures.empty(head) for name, head in heads.items()}
        return cls(EvaluationRows.of([], next(iter(scored.values())).features), scored)

    def __len__(self) -> int:
        return len(self.rows.items)

    @property
    def items(self) -> tuple[EvaluationItem, ...]:
        """The items, one for each row."""
        return self.rows.items

    @property
    def targets(self) -> Tensor:
        """Class index of each item, (m,) int64."""
        return self.rows.targets

    def features(self, head: HeadName) -> Tensor:
        """Features (m, p) for a head; a view."""
        return self._scored[head].features

    @property
    def all_features(self) -> dict[HeadName, Tensor]:
        """Features (m, p) for each head; views."""
        return {name: scored.features for name, scored in self._scored.items()}

    def scores(self, classes: int) -> dict[HeadName, EvaluationScores]:
        """Scores and leverages under each head, in `classes` columns."""
        return {name: scored.scores(classes) for name, scored in self._scored.items()}

    def scores_with(self, new: NewRows, heads: Heads, classes: int) -> dict[HeadName, EvaluationScores]:
        """Scores and leverages of the rows of the set and of new ones under the heads as they are."""
        return {
            name: scored.scores_with(new.features[name], heads[name], classes) for name, scored in self._scored.items()
        }

    def scores_after(
        self, updates: Mapping[HeadName, RankUpdate], new: NewRows, before: Scores
    ) -> dict[HeadName, EvaluationScores]:
        """What `before`, those of `scores_with`, will be after proposed updates."""
        return {
            name: scored.scores_after(updates[name], new.features[name], before[name])
            for name, scored in self._scored.items()
        }

    def new_rows(
        self,
        examples: Sequence[LabelledFeatures],
        index: Mapping[str, int],
        limit: int,
        heads: Heads,
        leverages: Mapping[HeadName, Tensor] | None = None,
    ) -> NewRows:
        """The rows with which examples may enter. Nothing enters yet.

        Examples that are not eligible stay out, and of a bulk import those for which there is no room.

        Args:
            examples: k samples.
            index: column of each label.
            limit: most rows of the set.
            heads: give the leverages.
            leverages: (k,) of the examples under each head, if they are known.
        """
        able = [row for row, example in enumerate(examples) if example.eligible]
        items = evaluation_items([examples[row] for row in able], index)
        # Before features are stacked: those of 50,000 imported samples would take 1 GB in float64 at p = 2,433.
        kept = balanced(items, limit)
        chosen = [able[row] for row in kept]
        like = self.all_features
        rows = stacked([examples[row] for row in chosen], heads) if chosen else {name: like[name][:0] for name in heads}
        features = {}
        for name, head in heads.items():
            phi = rows[name].to(like[name])
            known = None if leverages is None else leverages[name][chosen]
            features[name] = NewFeatures(phi, head.leverages(phi) if known is None else known)
        return NewRows(EvaluationRows.of([items[row] for row in kept], next(iter(like.values()))), features)

    def append(self, new: NewRows, scores: Scores) -> None:
        """Adds rows at the end; `scores` are those of all rows from here on."""
        for name, scored in self._scored.items():
            scored.append(new.features[name].features, scores[name])
        self.rows = self.rows.plus(new.rows)

    def recompute(self, heads: Heads) -> None:
        """Scores and leverages anew; after a refit."""
        for name, scored in self._scored.items():
            scored.recompute(heads[name])

    def rescored(self, heads: Heads) -> EvaluationSet:
        """The same rows under other heads, where `heads` has some, and else under those as they are.

        It shares the features: only one of the two may change afterwards.
        """
        changed = {name: scored.rescored(heads[name]) for name, scored in self._scored.items() if name in heads}
        return EvaluationSet(self.rows, {**self._scored, **changed})

    def drop(self, sample_ids: Collection[str]) -> None:
        """Lets samples go."""
        stay = [row for row, item in enumerate(self.items) if item.sample_id not in sample_ids]
        if len(stay) < len(self):
            self._keep(stay)

    def trim(self, limit: int) -> None:
        """Back to `limit` rows: from the largest class goes who is not held out, then who has the largest digest.

        Golden samples go last. The outcome depends on the set of samples alone, not on their order of arrival.
        """
        if len(self) > limit:
            self._keep(balanced(self.items, limit))

    def renumber(self, places: Sequence[int]) -> None:
        """Class `c` becomes class `places[c]`; `recompute` must follow."""
        items = [replace(item, class_index=places[item.class_index]) for item in self.items]
        self.rows = EvaluationRows.of(items, self.rows.weights)

    def copy(self) -> EvaluationSet:
        """An independent copy."""
        return EvaluationSet(self.rows, {name: scored.copy() for name, scored in self._scored.items()})

    def _keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows alone.

        Gaps are filled with rows from the end: a full set loses one row at every correction, and moving all that follow
        it would cost more than the head update itself.
        """
        stay = sorted(rows)
        gaps = sorted(set(range(len(stay))).difference(stay))
        order = list(range(len(stay)))
        for gap, mover in zip(gaps, stay[len(stay) - len(gaps) :], strict=True):
            order[gap] = mover
        self.rows = self.rows.take(order)
        index = torch.tensor(order, dtype=torch.int64, device=self.rows.targets.device)
        for scored in self._scored.values():
            scored.keep(index)

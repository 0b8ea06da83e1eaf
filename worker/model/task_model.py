"""What the learner knows of one task: a ridge head, the panel that judges it, class counts and calibration.

A change is proposed (nothing moves), judged by the gate, published, and only then committed; a refused or failed
candidate is discarded and leaves no trace.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from pawl.classifier.novelty import Novelty
from worker.model.candidate import NEVER, Candidate, Change, Example, Judged, panel_items
from worker.model.correction_weight import needed_emphasis
from worker.model.evaluation_set import EvaluationScores, EvaluationSet, balanced
from worker.model.novelty_reference import measure
from worker.model.ridge import RidgeHead, RowChange

Tensor = torch.Tensor


class TaskModel:
    """The head of one task and all that judges it.

    Args:
        head: an empty or restored ridge head.
        panel_limit: most samples on the panel.
        young_class_size: n0; a class with n < n0 samples weighs n0 / 2^floor(log2 n) a sample, others 1.
        prior_correction: tau in score_c - tau log n_c (logit adjustment; Menon et al., ICLR 2021).
        emphasis_limit: how many times its weight a correction may count (`worker/model/correction_weight.py`).
    """

    def __init__(
        self,
        head: RidgeHead,
        *,
        panel_limit: int,
        young_class_size: int,
        prior_correction: float,
        emphasis_limit: float = 1.0,
    ) -> None:
        self.head = head
        self.panel = EvaluationSet(panel_limit, head)
        self.labels: list[str] = []
        self.counts: list[int] = []
        self.temperature = 0.1
        self.regularisation_chosen_at = 0
        self._young = young_class_size
        self._tau = prior_correction
        self._emphasis_limit = emphasis_limit

    @property
    def samples(self) -> int:
        """Samples learned."""
        return sum(self.counts)

    def copy(self) -> TaskModel:
        """An independent copy."""
        other = TaskModel.__new__(TaskModel)
        other.__dict__.update(self.__dict__)
        other.head, other.panel = self.head.copy(), self.panel.copy()
        other.labels, other.counts = list(self.labels), list(self.counts)
        return other

    def become(self, other: TaskModel) -> None:
        """Takes over all that another holds."""
        self.__dict__.update(other.__dict__)

    def level(self, count: int) -> float:
        """Weight of each sample of a class with `count` samples; steps at powers of two, so it changes rarely."""
        return float(self._young) / 2 ** (max(count, 1).bit_length() - 1) if count < self._young else 1.0

    def offsets(self, counts: Sequence[int]) -> Tensor:
        """Prior correction (C,): -tau log n_c, `NEVER` where there is no sample."""
        numbers = torch.tensor(list(counts), dtype=torch.float64)
        return torch.where(numbers > 0, -self._tau * numbers.clamp(min=1).log(), NEVER).to(self.head.weights)

    def stirred(self, adds: Sequence[str], removes: Sequence[str]) -> list[str]:
        """Labels whose present members change their weight when samples with these labels come and go."""
        now = dict(zip(self.labels, self.counts, strict=True))
        after = dict(now)
        for label in adds:
            after[label] = after.get(label, 0) + 1
        for label in removes:
            after[label] -= 1
        return [
            label
            for label, count in now.items()
            if count and after[label] and self.level(count) != self.level(after[label])
        ]

    def propose(self, change: Change, *, bulk: bool = False) -> Candidate:
        """Works out the head after a change. `bulk` refits from the statistics: the way for many rows at once."""
        labels, counts = self._extended(change)
        index = {label: column for column, label in enumerate(labels)}
        rows = self._rows(change, index, counts)
        gain = None if bulk else self.head.gain(rows.features)  # for emphasis, panel and step: A^-1 is read once
        emphasis: dict[str, float] = {}
        if gain is not None and (emphasis := self._emphasis(change, index, counts, gain.leverages)):
            change = change.emphasised(emphasis)
            rows = self._rows(change, index, counts)
        seated, able = len(self.panel), [row for row, example in enumerate(change.adds) if example.eligible]
        self._seat([change.adds[row] for row in able], index, None if gain is None else gain.leverages[able])
        before = self.panel.view(len(labels))
        if bulk:
            head = self.head.copy()
            head.absorb(rows, len(labels))
            head.refit()
            after = EvaluationScores(self.panel.features @ head.weights, head.leverages(self.panel.features))
            weights = head.weights
        else:
            update = self.head.propose(rows, len(labels), gain)
            after, weights = self.panel.view_after(update), update.weights
        learned_now = [position < seated for position in range(len(self.panel))]
        leaving = {example.sample_id for example in change.removes}
        stay = [item.sample_id not in leaving for item in self.panel.items]
        judged = self._judge(change, labels, counts, before, after, learned_now, stay, weights)

        def novelty(dimension: int) -> Novelty:
            gram = head.corner(dimension) if bulk else self.head.corner(dimension, rows)
            z, weighed = self.panel.features[:, :dimension], self._weights(counts, stay)
            return measure(gram, z[stay], weighed[stay], judged.candidate)

        def commit() -> None:
            if bulk:
                self.head = head
            else:
                self.head.apply(update)
            self.labels, self.counts = list(labels), list(counts)
            self.panel.move_to(after)
            self.panel.drop(example.sample_id for example in change.removes)
            self.panel.trim()

        return Candidate(
            tuple(labels),
            weights,
            self.offsets(counts),
            sum(counts),
            self.head.regularisation,
            judged,
            novelty,
            commit,
            lambda: self.panel.truncate(seated),
            emphasis,
        )

    def propose_regularisation(self, value: float) -> Candidate:
        """The same samples under another lambda; O(p^3)."""
        head = self.head.copy()
        head.refit(value)
        before = self.panel.view(head.classes)
        after = EvaluationScores(self.panel.features @ head.weights, head.leverages(self.panel.features))
        everyone = [True] * len(self.panel)
        judged = self._judge(Change(), self.labels, self.counts, before, after, everyone, everyone, head.weights)

        def commit() -> None:
            self.head = head
            self.panel.move_to(after)

        return Candidate(
            tuple(self.labels),
            head.weights,
            self.offsets(self.counts),
            self.samples,
            value,
            judged,
            lambda dimension: self.novelty(dimension, after),
            commit,
            lambda: None,
        )

    def novelty(self, dimension: int, view: EvaluationScores | None = None) -> Novelty:
        """How unusual a text is, by the first numbers of z and the scores, now or under another view."""
        z, weights = self.panel.features[:, :dimension], self._weights(self.counts, [True] * len(self.panel))
        return measure(self.head.corner(dimension), z, weights, self.leave_one_out(view))

    def seat(self, examples: Sequence[Example]) -> None:
        """Puts learned samples on the panel after a restart, and golden ones, which are never learned."""
        self._seat(examples, {label: column for column, label in enumerate(self.labels)})
        self.panel.trim()

    def best_seats(self, examples: Sequence[Example]) -> list[Example]:
        """Of these, those that stay on a full panel."""
        index = {label: column for column, label in enumerate(self.labels)}
        return [examples[row] for row in balanced(panel_items(examples, index), self.panel.limit)]

    def leave_one_out(self, view: EvaluationScores | None = None) -> Tensor:
        """Corrected leave-one-out scores (m, C) of the panel, now or under another view."""
        view = view or self.panel.view(self.head.classes)
        return self._corrected(view, self.counts, [True] * len(self.panel))

    def _extended(self, change: Change) -> tuple[list[str], list[int]]:
        labels, counts = list(self.labels), list(self.counts)
        for example in change.adds:
            if example.label not in labels:
                labels.append(example.label)
                counts.append(0)
            counts[labels.index(example.label)] += 1
        for example in change.removes:
            counts[labels.index(example.label)] -= 1
        return labels, counts

    def _emphasis(
        self, change: Change, index: Mapping[str, int], counts: Sequence[int], leverages: Tensor
    ) -> dict[str, float]:
        """By sample id; only what is more than 1. `leverages` begin with those of `change.adds`."""
        places = [row for row, example in enumerate(change.adds) if example.sample_id in change.corrections]
        chosen = [change.adds[row] for row in places]
        if not chosen or not self.samples or self._emphasis_limit <= 1.0:
            return {}
        columns = [index[example.label] for example in chosen]
        found = needed_emphasis(
            self.head,
            torch.stack([example.features for example in chosen]),
            leverages[places],
            torch.tensor(columns, device=self.head.device),
            torch.tensor([e.weight * self.level(counts[column]) for e, column in zip(chosen, columns, strict=True)]),
            self.offsets(counts),
            self._emphasis_limit,
        )
        pairs = zip(chosen, found.tolist(), strict=True)
        return {example.sample_id: factor for example, factor in pairs if factor > 1.0}

    def _rows(self, change: Change, index: Mapping[str, int], counts: Sequence[int]) -> RowChange:
        old = [self.level(count) for count in self.counts] + [0.0] * (len(counts) - len(self.counts))
        new = [self.level(count) for count in counts]
        leaving = {example.sample_id for example in change.removes}
        signed = [(e, e.weight * new[index[e.label]]) for e in change.adds]
        signed += [(e, -e.weight * old[index[e.label]]) for e in change.removes]
        for label, members in change.members.items():
            step = new[index[label]] - old[index[label]]
            signed += [(e, e.weight * step) for e in members if step and e.sample_id not in leaving]
        return RowChange(
            torch.stack([example.features for example, _ in signed]),
            torch.tensor([index[example.label] for example, _ in signed], dtype=torch.int64),
            torch.tensor([weight for _, weight in signed], dtype=torch.float64),
        )

    def _seat(self, examples: Sequence[Example], index: Mapping[str, int], leverages: Tensor | None = None) -> None:
        items = panel_items(examples, index)
        rows = balanced(items, self.panel.limit)  # a bulk import does not seat more than can stay
        if rows:
            features = torch.stack([examples[row].features for row in rows])
            own = None if leverages is None else leverages[rows]
            self.panel.seat([items[row] for row in rows], features, self.head, own)

    def _weights(self, counts: Sequence[int], learned: Sequence[bool]) -> Tensor:
        """With which each item of the panel is in the head, (m,); 0 for those that are not."""
        panel = self.panel.columns
        levels = torch.tensor([self.level(count) for count in counts]).to(panel.weights)
        is_in = torch.tensor(learned, dtype=torch.bool, device=levels.device) & ~panel.golden
        return torch.where(is_in, panel.weights * levels[panel.targets], 0.0)

    def _corrected(self, view: EvaluationScores, counts: Sequence[int], learned: Sequence[bool]) -> Tensor:
        targets, weights, offsets = self.panel.targets, self._weights(counts, learned), self.offsets(counts)
        scores = view.leave_one_out(targets, weights).add_(offsets)
        # Without its own sample the class of an item is one smaller, and so is its prior.
        smaller = self.offsets([max(count - 1, 0) for count in counts]) - offsets
        rows = torch.arange(len(targets), device=targets.device)
        scores[rows, targets] += torch.where(weights > 0, smaller[targets], 0.0)
        return scores

    def _judge(
        self,
        change: Change,
        labels: Sequence[str],
        counts: Sequence[int],
        before: EvaluationScores,
        after: EvaluationScores,
        learned_now: Sequence[bool],
        learned_then: Sequence[bool],
        weights: Tensor,
    ) -> Judged:
        padded = list(self.counts) + [0] * (len(counts) - len(self.counts))
        stay = torch.tensor(learned_then, dtype=torch.bool)
        live = self._corrected(before, padded, learned_now)
        candidate = self._corrected(after, counts, learned_then)
        if change.adds:
            features = torch.stack([example.features for example in change.adds]).to(weights)
            targets = torch.tensor([labels.index(example.label) for example in change.adds])
            old = torch.nn.functional.pad(self.head.weights, (0, len(labels) - self.head.classes))
            new_live, new_candidate = features @ old + self.offsets(padded), features @ weights + self.offsets(counts)
        else:
            targets, new_live = torch.zeros(0, dtype=torch.int64), weights.new_zeros(0, len(labels))
            new_candidate = new_live
        items = [item for item, flag in zip(self.panel.items, learned_then, strict=True) if flag]
        return Judged(
            tuple(labels),
            items,
            self.panel.targets[stay],
            live[stay],
            candidate[stay],
            targets,
            new_live,
            new_candidate,
            tuple(column for column, n in enumerate(padded) if not n and counts[column]),
        )

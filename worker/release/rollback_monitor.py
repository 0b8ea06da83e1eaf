"""Probation: the live head and the one before, compared on the labels that arrive.

The gate judges a version before it serves, on labels that are stored. What it cannot see shows in what comes next: each
arriving label is answered by the live head and by references, heads of versions that were live up to a window ago,
before it is learned (progressive validation; Blum et al., COLT 1999). Where the live one is significantly worse, the
learner rolls back to the reference (ADR 0009).

Feedback is not a fair sample: people report mistakes more readily than they confirm answers, and a mistake counts
against the version that made it. With mistakes reported r times as often as right answers are confirmed, a live head no
worse than the reference loses up to r / (1 + r) of the items on which the two differ. r is a habit of the users, so it
is estimated from before the reference was taken, when what is judged here had not yet happened: it makes the share of
confirmations that arrived then out of the accuracy that the panel promised,

    r = (1 - s) / s * a / (1 - a),     s: share that confirmed, a: leave-one-out accuracy of the reference

and the test is an exact binomial one against max(1/2, r / (1 + r)). Without enough labels from before, s is the share
since then, which takes every decline for a habit: it errs on the side of silence. Below a share of confirmations, now
as then, it abstains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pawl.domain.samples import Origin, Sample
from pawl.settings import Settings
from worker.model.change import LabelledFeatures
from worker.model.exact_tests import binomial_tail
from worker.model.task_model import TaskModel
from worker.state.learner_state import LearnerState

Tensor = torch.Tensor
_REFERENCES = 2
"""So that there is always one that is at least half a window old: a new one alone would forget a slow decline."""
_ENOUGH = 100.0
"""Labels before a share of confirmations says something."""


@dataclass(frozen=True, slots=True)
class Answerer:
    """A head as it was: labels, weights (p, C), offsets (C,), and its leave-one-out accuracy then (None: no panel)."""

    labels: tuple[str, ...]
    weights: Tensor
    offsets: Tensor
    accuracy: float | None

    def answers(self, features: Tensor) -> list[str]:
        """The best label for each row of features (n, p)."""
        best = (features @ self.weights + self.offsets).argmax(1).tolist()
        return [self.labels[column] for column in best]


@dataclass(slots=True)
class Tally:
    """What was counted of one task since a reference was taken; `before`: share of confirmations until then."""

    accuracy: float
    before: float | None = None
    items: int = 0
    confirmed: int = 0
    lost: int = 0
    gained: int = 0

    def count(self, label: str, reference: str, live: str, served: str) -> None:
        """One arriving label, and what the three versions say. Lost: the reference alone is right."""
        self.items += 1
        self.confirmed += served == label
        self.lost += reference == label != live
        self.gained += live == label != reference

    @property
    def bias(self) -> float:
        """The share of differing items that a live head no worse than the reference may lose."""
        share = self.confirmed / self.items if self.before is None else self.before
        share = min(max(share, 1e-6), 1.0 - 1e-6)
        promised = min(max(self.accuracy, 1e-6), 1.0 - 1e-6)
        ratio = (1.0 - share) / share * promised / (1.0 - promised)
        return max(0.5, ratio / (1.0 + ratio))

    def p_value(self) -> float:
        """Of so many lost, or more, under a live head that is no worse."""
        return binomial_tail(self.lost, self.lost + self.gained, self.bias) if self.lost else 1.0

    def has_failed(self, settings: Settings) -> bool:
        """Whether the live head is worse, as far as this feedback can tell."""
        return (
            self.items > 0
            and self.lost + self.gained >= settings.probation_items
            and min(self.confirmed / self.items, 1.0 if self.before is None else self.before)
            >= settings.probation_confirmed
            and self.p_value() < settings.probation_alpha
        )

    def sentence(self, task: str, number: int) -> str:
        """What a reviewer is told."""
        return (
            f"{task}: of the last {self.items} labels that arrived, version {number} was right on {self.lost} on which "
            f"the live version is wrong, and wrong on {self.gained} on which it is right (p = {self.p_value():.2g})"
        )


@dataclass(slots=True)
class Habit:
    """How readily users confirm: a fading count of what arrived, whichever version answered."""

    items: float = 0.0
    confirmed: float = 0.0

    def count(self, *, is_confirmed: bool, memory: int) -> None:
        """One more label; earlier ones fade over `memory` of them."""
        keep = 1.0 - 1.0 / max(memory, 1)
        self.items, self.confirmed = keep * self.items + 1.0, keep * self.confirmed + is_confirmed

    @property
    def share(self) -> float:
        """The share that confirmed."""
        return self.confirmed / self.items


@dataclass(slots=True)
class Reference:
    """A version that was live, the shares of confirmations until then, and how the later ones do against it."""

    number: int
    heads: Mapping[str, Answerer]
    before: Mapping[str, float]
    tallies: dict[str, Tally]

    @property
    def items(self) -> int:
        """Labels compared."""
        return sum(tally.items for tally in self.tallies.values())


@dataclass(frozen=True, slots=True)
class Failure:
    """The version to go back to, and why."""

    number: int
    reason: str


class Probation:
    """Compares the live version with those before it. A start of the process begins a new window."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._references: list[Reference] = []
        self._generation = -1
        self._habits: dict[str, Habit] = {}

    @property
    def numbers(self) -> frozenset[int]:
        """Versions whose artefacts must stay, to go back to."""
        return frozenset(reference.number for reference in self._references)

    def forget(self) -> None:
        """Comparisons begin anew."""
        self._references.clear()

    async def observe(
        self, state: LearnerState, samples: Sequence[Sample], features: Mapping[str, LabelledFeatures]
    ) -> Failure | None:
        """Scores arriving labels before they are learned; says where to roll back to if the live version fails.

        Labels that were held do not belong here: they would speak for the version that believed their like.
        `features` of the samples are by sample id.
        """
        fed = [one for one in samples if one.origin is Origin.FEEDBACK and one.reviewed_at is None]
        if not self._settings.probation_window or not fed:
            return None
        if self._generation != state.generation:  # somebody else promoted, or the features are of another encoder
            self.forget()
            self._generation = state.generation
        if not self._references:
            self._references.append(await asyncio.to_thread(self._taken, state))
        await asyncio.to_thread(self._count, state, fed, features)
        for reference in self._references:
            for task, tally in reference.tallies.items():
                if tally.has_failed(self._settings) and reference.number != state.version:
                    return Failure(reference.number, tally.sentence(task, reference.number))
        if 2 * self._references[-1].items >= self._settings.probation_window:
            self._references.append(await asyncio.to_thread(self._taken, state))
            del self._references[:-_REFERENCES]
        return None

    def _count(self, state: LearnerState, samples: Sequence[Sample], known: Mapping[str, LabelledFeatures]) -> None:
        for task, learner in state.tasks.items():
            own = [sample for sample in samples if sample.task == task]
            if not own or not learner.samples:
                continue
            features = torch.stack([known[sample.id].features for sample in own]).to(learner.head.weights)
            live = _answerer(learner, None).answers(features)
            habit = self._habits.setdefault(task, Habit())
            for sample, now in zip(own, live, strict=True):
                is_confirmed = (sample.served_label or now) == sample.label
                habit.count(is_confirmed=is_confirmed, memory=self._settings.probation_window)
            for reference in self._references:
                head = reference.heads.get(task)
                if head is None or head.accuracy is None:
                    continue
                tally = reference.tallies.setdefault(task, Tally(head.accuracy, reference.before.get(task)))
                for sample, now, then in zip(own, live, head.answers(features), strict=True):
                    tally.count(sample.label, then, now, sample.served_label or now)

    def _taken(self, state: LearnerState) -> Reference:
        heads = {task: _answerer(one, _accuracy(one)) for task, one in state.tasks.items() if one.samples}
        before = {task: habit.share for task, habit in self._habits.items() if habit.items >= _ENOUGH}
        return Reference(state.version, heads, before, {})


def _answerer(learner: TaskModel, accuracy: float | None) -> Answerer:
    return Answerer(tuple(learner.labels), learner.head.weights, learner.offsets(learner.counts), accuracy)


def _accuracy(learner: TaskModel) -> float | None:
    if not len(learner.evaluation):
        return None
    right = int((learner.leave_one_out().argmax(1) == learner.evaluation.targets).sum())
    return (right + 1) / (len(learner.evaluation) + 2)  # a panel without a mistake promises much, not everything

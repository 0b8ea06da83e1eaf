"""The rollback monitor: the live heads and earlier ones, compared on the labels that arrive.

The gate judges a version before it serves, on labels that are stored. What it cannot see shows in what comes next: each
arriving label is answered by the live head and by references, heads of versions that were live up to a window ago,
before it is learned (progressive validation; Blum et al., COLT 1999). If the live head is significantly worse, the
learner rolls back to the reference (ADR 0009).

Feedback is not a fair sample: people report mistakes more readily than they confirm answers, and a mistake counts
against the version that made it. If mistakes are reported r times as often as right answers are confirmed, a live head
that is no worse than the reference loses up to r / (1 + r) of the items on which the two differ. r depends on the
users. It is estimated from the labels that arrived before the reference was taken, which what is judged here cannot
have changed: from the share s of them that confirmed, and the leave-one-out accuracy a of the reference,

    r = (1 - s) / s * a / (1 - a)

and the test is an exact binomial one against max(1/2, r / (1 + r)). If there are too few labels from before, s is the
share since then. That explains every decline by the users' reports: the monitor then errs on the side of silence. If
fewer labels confirm, now or then, than `probation_confirmed`, it abstains.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from pawl.domain.samples import Origin, Sample
from pawl.domain.versions import HeadName
from pawl.settings import Settings
from worker.model.change import LabelledFeatures, stacked
from worker.model.exact_tests import binomial_tail
from worker.model.stacked_head import StackedHead
from worker.model.task_model import TaskModel
from worker.state.learner_state import LearnerState

Tensor = torch.Tensor
_REFERENCES = 2
"""So that there is always one that is at least half a window old: a new one alone would forget a slow decline."""
ENOUGH = 100.0
"""Labels before a share of confirmations says something."""


@dataclass(frozen=True, slots=True)
class FrozenHead:
    """A task's heads as they were, and their labels.

    `accuracy` is what leave-one-out said of it then; None if its evaluation set was empty.
    """

    labels: tuple[str, ...]
    stacked: StackedHead
    accuracy: float | None

    @classmethod
    def of(cls, model: TaskModel) -> FrozenHead:
        """A model's heads as they are. Their weights are never written again: an update makes new ones."""
        accuracy, items = None, len(model.evaluation)
        if items:
            right = int((model.leave_one_out().argmax(1) == model.evaluation.targets).sum())
            accuracy = (right + 1) / (items + 2)  # the rule of succession: no mistake among few is not accuracy 1
        return cls(tuple(model.labels), model.stacked, accuracy)

    def answers(self, features: Mapping[HeadName, Tensor]) -> list[str]:
        """The best label for each row of features (n, p)."""
        return best_labels(self.labels, self.stacked.scores(features))


def best_labels(labels: Sequence[str], scores: Tensor) -> list[str]:
    """The label of the best of the scores (n, C) in each row."""
    return [labels[column] for column in scores.argmax(1).tolist()]


def reporting_ratio(share: float, accuracy: float) -> float:
    """r: how many times as often a mistake is reported as a right answer is confirmed.

    `share` of the labels confirm the answer, which is right with the probability `accuracy`.
    """
    # Away from 0 and 1, where the ratio has no value: everybody or nobody confirmed, or leave-one-out was right
    # throughout.
    share, accuracy = (min(max(number, 1e-6), 1.0 - 1e-6) for number in (share, accuracy))
    return (1.0 - share) / share * accuracy / (1.0 - accuracy)


@dataclass(slots=True)
class Tally:
    """What was counted of one task since a reference was taken.

    Args:
        accuracy: leave-one-out accuracy of the reference.
        before: share of the labels until then that confirmed; None if there were too few.
        items, confirmed: labels that arrived, and those that agree with the served answer.
        lost, gained: labels on which the reference alone is right, and the live head alone.
    """

    accuracy: float
    before: float | None = None
    items: int = 0
    confirmed: int = 0
    lost: int = 0
    gained: int = 0

    def count(self, label: str, reference: str, live: str, served: str) -> None:
        """One arriving label, and what the reference, the live version and the one that served it say."""
        self.items += 1
        self.confirmed += served == label
        self.lost += reference == label != live
        self.gained += live == label != reference

    @property
    def bias(self) -> float:
        """Share of the differing items that a live head may lose without being worse than the reference."""
        share = self.confirmed / self.items if self.before is None else self.before
        ratio = reporting_ratio(share, self.accuracy)
        return max(0.5, ratio / (1.0 + ratio))

    def p_value(self) -> float:
        """Probability that a live head which is no worse loses as many or more."""
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
class ConfirmationRate:
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
class ReferenceVersion:
    """A version that was live. Heads, shares of confirmations until then, and counts since then are by task."""

    number: int
    heads: Mapping[str, FrozenHead]
    before: Mapping[str, float]
    tallies: dict[str, Tally]

    @property
    def items(self) -> int:
        """Labels compared."""
        return sum(tally.items for tally in self.tallies.values())


@dataclass(frozen=True, slots=True)
class RollbackAdvice:
    """The version to go back to, and why."""

    number: int
    reason: str


class RollbackMonitor:
    """Compares the live version with those before it. A start of the process begins a new window."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._references: list[ReferenceVersion] = []
        self._generation = -1
        self._rates: dict[str, ConfirmationRate] = {}

    @property
    def protected(self) -> frozenset[int]:
        """Versions whose artefacts must stay, to go back to."""
        return frozenset(reference.number for reference in self._references)

    def forget(self) -> None:
        """Comparisons begin anew."""
        self._references.clear()

    async def observe(
        self, state: LearnerState, samples: Sequence[Sample], features: Mapping[str, LabelledFeatures]
    ) -> RollbackAdvice | None:
        """Scores arriving labels before they are learned; says where to roll back to if the live version fails.

        Labels that were held do not count: they would speak for the version that believed their like. `features` of
        the samples are by sample id.
        """
        counted = [sample for sample in samples if sample.origin is Origin.FEEDBACK and sample.reviewed_at is None]
        if not self._settings.probation_window or not counted:
            return None
        if self._generation != state.generation:  # somebody else promoted, or the features are of another encoder
            self.forget()
            self._generation = state.generation
        # The first reference is the live version itself, before it learns these labels.
        if not self._references:
            self._references.append(await asyncio.to_thread(self._reference, state))
        await asyncio.to_thread(self._count, state, counted, features)
        for reference in self._references:
            for task, tally in reference.tallies.items():
                if tally.has_failed(self._settings) and reference.number != state.version:
                    return RollbackAdvice(reference.number, tally.sentence(task, reference.number))
        if 2 * self._references[-1].items >= self._settings.probation_window:
            self._references.append(await asyncio.to_thread(self._reference, state))
            del self._references[:-_REFERENCES]
        return None

    def _count(self, state: LearnerState, samples: Sequence[Sample], known: Mapping[str, LabelledFeatures]) -> None:
        for task, model in state.tasks.items():
            of_task = [sample for sample in samples if sample.task == task]
            if not of_task or not model.samples:
                continue
            features = stacked([known[sample.id] for sample in of_task], model.heads)
            live = best_labels(model.labels, model.stacked.scores(features))
            rate = self._rates.setdefault(task, ConfirmationRate())
            for sample, now in zip(of_task, live, strict=True):
                is_confirmed = (sample.served_label or now) == sample.label
                rate.count(is_confirmed=is_confirmed, memory=self._settings.probation_window)
            for reference in self._references:
                head = reference.heads.get(task)
                if head is None or head.accuracy is None:
                    continue
                tally = reference.tallies.setdefault(task, Tally(head.accuracy, reference.before.get(task)))
                for sample, now, then in zip(of_task, live, head.answers(features), strict=True):
                    tally.count(sample.label, then, now, sample.served_label or now)

    def _reference(self, state: LearnerState) -> ReferenceVersion:
        heads = {task: FrozenHead.of(model) for task, model in state.tasks.items() if model.samples}
        before = {task: rate.share for task, rate in self._rates.items() if rate.items >= ENOUGH}
        return ReferenceVersion(state.version, heads, before, {})

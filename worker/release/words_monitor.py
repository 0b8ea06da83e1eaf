"""The words monitor: answers that words alone gave, and those that both heads would have given, on arriving labels.

The threshold of the cascade is chosen on leave-one-out of stored samples. What arrives may be other than that: new
topics in old words, another way of writing. So each arriving label whose text was answered by words alone is compared
with that answer and with the one that both heads give before they learn it. If words are right significantly less often
than was promised, the task's answers come from both heads only, from the next version on; the heads stay as they are,
as nothing is wrong with them.

Mistakes are reported more readily than right answers are confirmed, and here every mistake is one of words: r and the
exact binomial test are those of `worker/release/rollback_monitor.py`. r is estimated from the labels of texts that both
heads answered, which words cannot have spoilt, and from the accuracy that leave-one-out says of such texts; as long as
there are too few of them, from the answers by words themselves, which errs on the side of silence.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pawl.domain.samples import Origin, Sample
from pawl.settings import Settings
from worker.model.change import LabelledFeatures, stacked
from worker.model.exact_tests import binomial_tail
from worker.model.fast_answers import choose_threshold, margins_of
from worker.model.task_model import TaskModel
from worker.release.rollback_monitor import ENOUGH, ConfirmationRate, best_labels, reporting_ratio
from worker.state.learner_state import LearnerState


@dataclass(frozen=True, slots=True)
class Promise:
    """What leave-one-out says of a task's cascade.

    Args:
        words: accuracy of words on what they answer.
        rest: accuracy of both heads on what they leave.
        lost: of the items that words answer and on which one of the two is right, the share that both heads are.
    """

    words: float
    rest: float
    lost: float

    @classmethod
    def of(cls, model: TaskModel, loss: float | None) -> Promise | None:
        """Of a model as it is; None where words answer nothing."""
        lexical, pair = model.leave_one_out(head="lexical"), model.leave_one_out()
        targets = model.evaluation.targets
        chosen = None if loss is None else choose_threshold(lexical, pair, targets, loss)
        if chosen is None:
            return None
        answered = margins_of(lexical) >= chosen.threshold
        words, both = lexical.argmax(1) == targets, pair.argmax(1) == targets
        lost, gained = int((answered & both & ~words).sum()), int((answered & words & ~both).sum())
        return cls(
            _share(int(words[answered].sum()), int(answered.sum())),
            _share(int(both[~answered].sum()), int((~answered).sum())),
            _share(lost, lost + gained),
        )


@dataclass(slots=True)
class WordsTally:
    """What was counted of one task: for each label of an answer by words whether words were right, and whether both
    heads would have been; and how readily answers of both heads are confirmed.
    """

    outcomes: deque[tuple[bool, bool]]
    others: ConfirmationRate = field(default_factory=ConfirmationRate)

    def p_value(self, promise: Promise) -> float:
        """Probability that words which are as good as promised lose as many labels to both heads, or more."""
        known = self.others.items >= ENOUGH
        ratio = reporting_ratio(*((self.others.share, promise.rest) if known else (self.confirmed, promise.words)))
        odds = ratio * promise.lost / (1.0 - promise.lost)
        return binomial_tail(self.lost, self.lost + self.gained, max(0.5, odds / (1.0 + odds)))

    @property
    def lost(self) -> int:
        """Labels on which words were wrong and both heads would have been right."""
        return sum(both and not words for words, both in self.outcomes)

    @property
    def gained(self) -> int:
        """Labels on which words were right and both heads would have been wrong."""
        return sum(words and not both for words, both in self.outcomes)

    @property
    def confirmed(self) -> float:
        """Share of the labels of answers by words that confirm them."""
        return sum(words for words, _ in self.outcomes) / max(len(self.outcomes), 1)

    def has_failed(self, promise: Promise, settings: Settings) -> bool:
        """Whether words are worse than promised, as far as this feedback can tell."""
        confirmed = self.others.share if self.others.items >= ENOUGH else self.confirmed
        return (
            self.lost + self.gained >= settings.probation_items
            and confirmed >= settings.probation_confirmed
            and self.p_value(promise) < settings.probation_alpha
        )

    def sentence(self, promise: Promise) -> str:
        """What an operator is told."""
        return (
            f"of the last {len(self.outcomes)} labels for answers by words alone, both heads together are right on "
            f"{self.lost} on which words were wrong, and wrong on {self.gained} on which they were right "
            f"(p = {self.p_value(promise):.2g}); answers come from both heads"
        )


class WordsMonitor:
    """Compares answers by words with those of both heads. A start of the process begins a new window."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tallies: dict[str, WordsTally] = {}

    async def observe(
        self, state: LearnerState, samples: Sequence[Sample], features: Mapping[str, LabelledFeatures]
    ) -> dict[str, str]:
        """Counts arriving labels before they are learned; by task why words are to answer nothing alone any more.

        `features` of the samples are by sample id.
        """
        if not self._settings.probation_window:
            return {}
        failed: dict[str, str] = {}
        for task, model in state.tasks.items():
            of_task = [each for each in samples if each.task == task and _counts(each)]
            if of_task and len(model.heads) > 1:
                reason = await asyncio.to_thread(self._count, task, model, of_task, features)
                if reason is not None:
                    failed[task] = reason
                    del self._tallies[task]
        return failed

    def _count(
        self, task: str, model: TaskModel, samples: Sequence[Sample], known: Mapping[str, LabelledFeatures]
    ) -> str | None:
        tally = self._tallies.setdefault(task, WordsTally(deque(maxlen=self._settings.probation_window)))
        by_words = [sample for sample in samples if sample.served_by == "words"]
        for sample in samples:
            if sample.served_by != "words":
                is_confirmed = sample.served_label == sample.label
                tally.others.count(is_confirmed=is_confirmed, memory=self._settings.probation_window)
        if not by_words:
            return None
        features = stacked([known[sample.id] for sample in by_words], model.heads)
        both = best_labels(model.labels, model.stacked.scores(features))
        for sample, answer in zip(by_words, both, strict=True):
            tally.outcomes.append((sample.served_label == sample.label, answer == sample.label))
        if tally.lost + tally.gained < self._settings.probation_items:
            return None
        promise = Promise.of(model, self._settings.fast_loss)
        failed = promise is not None and tally.has_failed(promise, self._settings)
        return tally.sentence(promise) if promise is not None and failed else None


def _counts(sample: Sample) -> bool:
    """Whether a label says something about the answer that its text got; one that was held comes too late for that."""
    return sample.origin is Origin.FEEDBACK and sample.reviewed_at is None and sample.served_label is not None


def _share(hits: int, trials: int) -> float:
    """The rule of succession: no mistake among few is not accuracy 1."""
    return (hits + 1) / (trials + 2)

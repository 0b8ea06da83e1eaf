"""What words must not answer alone, whatever leave-one-out says of them.

Golden, pinned and corrected texts are what a user knows the right answer of. The learner sees to it that both heads
together give it (correction weight, gate); of the lexical head alone nobody has seen that. So each version names these
texts, by the first 64 bits of their digests, and they always go to both heads.

A task whose answers by words turned out to be worse than promised (`worker/release/words_monitor.py`) has none until
its samples have grown by half, which is when its heads are chosen anew.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from pawl.classifier.lexical_head import kept_number
from pawl.classifier.tensors import Integers
from pawl.domain.samples import Origin, Sample, SampleState
from worker.model.hyperparameters import GROWTH

FAILED_AT = "words_failed_at"
"""Of a version's metrics: by task, the number of samples at which the words monitor spoke."""
KEPT_LIMIT = 100_000
"""Most texts of a task: 8 bytes each in every version. A task with more of them has no answers by words alone."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptTexts:
    """`kept_number` of these texts of one task, sorted, shape (k,), uint64."""

    numbers: Integers = field(default_factory=lambda: np.zeros(0, np.uint64))

    @property
    def served(self) -> Integers:
        """What a version names; nothing where they are too many, as words then answer nothing."""
        return self.numbers[:0] if self.too_many else self.numbers

    @property
    def too_many(self) -> bool:
        """Whether no version can name them all. It stays so until the learner starts anew."""
        return len(self.numbers) > KEPT_LIMIT

    def with_digests(self, digests: Iterable[str]) -> KeptTexts:
        """With the texts of these digests as well."""
        return KeptTexts(np.union1d(self.numbers, _numbers(digests)))

    def after(self, adds: Sequence[Sample], leaving: Iterable[str]) -> KeptTexts:
        """When samples have been learned, and the texts of the digests `leaving` have left."""
        kept = [sample.text_digest for sample in adds if is_kept(sample)]
        if self.too_many:  # not all of them are known, so none is known to be the last one
            return self
        # First those that leave: a correction of a correction is the same text, and stays.
        return KeptTexts(np.setdiff1d(self.numbers, _numbers(leaving))).with_digests(kept)


@dataclass(frozen=True, slots=True, eq=False)
class WordsRules:
    """The rules of one task: texts that words never answer alone, and the number of samples at which the words monitor
    found them worse than promised; None where it did not.
    """

    kept: KeptTexts = field(default_factory=KeptTexts)
    failed_at: int | None = None

    def obstacle(self, samples: int) -> str | None:
        """Why words answer nothing alone in a task with so many samples; None where they may."""
        if self.kept.too_many:
            return f"more than {KEPT_LIMIT} texts were corrected, pinned or golden, and no version can name them all"
        if self.failed_at is not None and samples < GROWTH * self.failed_at:
            again = math.ceil(GROWTH * self.failed_at)
            return f"labels that arrived contradicted answers by words alone; tried again at {again} samples"
        return None


def rules_after(
    rules: Mapping[str, WordsRules], adds: Sequence[Sample], leaving: Mapping[str, Iterable[str]]
) -> dict[str, WordsRules]:
    """The rules of each task when samples have been learned, and the texts of the digests `leaving` have left it."""
    after = dict(rules)
    for task in {*leaving, *(sample.task for sample in adds)}:
        present = rules.get(task, WordsRules())
        of_task = [sample for sample in adds if sample.task == task]
        after[task] = replace(present, kept=present.kept.after(of_task, leaving.get(task, ())))
    return after


def rules_failed(rules: Mapping[str, WordsRules], samples: Mapping[str, int]) -> dict[str, WordsRules]:
    """The rules of each task when the words monitor has spoken in some; `samples` is how many these have."""
    failed = {task: replace(rules.get(task, WordsRules()), failed_at=count) for task, count in samples.items()}
    return {**rules, **failed}


def is_kept(sample: Sample) -> bool:
    """Whether words never answer the text of a sample alone (`SampleStore.kept_digests` says the same in SQL)."""
    return sample.state is SampleState.GOLDEN or sample.pinned or sample.origin in {Origin.FEEDBACK, Origin.RESTORED}


def _numbers(digests: Iterable[str]) -> Integers:
    return np.array(sorted({kept_number(digest) for digest in digests}), dtype=np.uint64)

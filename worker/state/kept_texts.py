"""Texts that words never answer alone: those that somebody has said the label of, one by one.

Golden, pinned and corrected texts are what a user knows the right answer of. The learner sees to it that both heads
together give it (correction weight, gate); of the lexical head alone nobody has seen that. So each version names these
texts, by the first 64 bits of their digests, and they always go to both heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from pawl.classifier.lexical_head import kept_number
from pawl.classifier.tensors import Integers
from pawl.domain.samples import Origin, Sample, SampleState

KEPT_LIMIT = 100_000
"""Most texts of a task: 8 bytes each in every version. A task with more of them has no answers by words alone."""


@dataclass(frozen=True, slots=True, eq=False)
class KeptTexts:
    """`kept_number` of these texts of one task, sorted, shape (k,), uint64."""

    numbers: Integers = field(default_factory=lambda: np.zeros(0, np.uint64))

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


def is_kept(sample: Sample) -> bool:
    """Whether words never answer the text of a sample alone (`SampleStore.kept_digests` says the same in SQL)."""
    return sample.state is SampleState.GOLDEN or sample.pinned or sample.origin is Origin.FEEDBACK


def _numbers(digests: Iterable[str]) -> Integers:
    return np.array(sorted({kept_number(digest) for digest in digests}), dtype=np.uint64)

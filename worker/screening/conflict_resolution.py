"""Which of the samples at hand enter the heads, which leave, and which never will."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pawl.domain.samples import Sample, SampleState


@dataclass(frozen=True, slots=True)
class Resolution:
    """A batch, sorted out.

    adds         queued samples to learn, by `seq`.
    replaced     id of an add -> learned samples of the same text that it replaces.
    dropped      id -> id of the newest; queued samples that a newer label for their text has overtaken.
    retractions  learned samples whose client asked to take them out.
    """

    adds: list[Sample] = field(default_factory=list)
    replaced: dict[str, list[Sample]] = field(default_factory=dict)
    dropped: dict[str, str] = field(default_factory=dict)
    retractions: list[Sample] = field(default_factory=list)

    def removes(self, adds: Sequence[Sample]) -> dict[str, Sample]:
        """Learned samples that leave when these enter, by id."""
        return {old.id: old for sample in adds for old in self.replaced.get(sample.id, ())}

    def replacements(self, adds: Sequence[Sample]) -> dict[str, str]:
        """The same, by id -> id of the sample that replaces it."""
        return {old: sample.id for sample in adds for old in self.removes([sample])}


def resolve_conflicts(samples: Sequence[Sample], rivals: Sequence[Sample]) -> Resolution:
    """Of several labels for one text in one task the newest (largest `seq`) counts, whatever order they come in.

    `rivals` are the other queued or learned samples of the same texts. Samples in a final state are passed over:
    they were delivered twice.
    """
    same_text: dict[tuple[str, str], dict[str, Sample]] = defaultdict(dict)
    for sample in (*rivals, *samples):
        if sample.state in (SampleState.QUEUED, SampleState.LEARNED):
            same_text[sample.task, sample.text_digest][sample.id] = sample
    resolution = Resolution()
    for sample in sorted({sample.id: sample for sample in samples}.values(), key=lambda sample: sample.seq):
        if sample.state is SampleState.LEARNED and sample.retract_requested:
            resolution.retractions.append(sample)
        if sample.state is not SampleState.QUEUED:
            continue
        group = same_text[sample.task, sample.text_digest]
        newest = max(group.values(), key=lambda other: other.seq)
        if newest.id != sample.id:
            resolution.dropped[sample.id] = newest.id
            continue
        resolution.adds.append(sample)
        old = [other for other in group.values() if other.state is SampleState.LEARNED]
        if old:
            resolution.replaced[sample.id] = old
    leaving = {old.id for each in resolution.replaced.values() for old in each}
    # A sample that a newer one replaces leaves with the batch's step: retracted beside it, it would be subtracted
    # twice.
    resolution.retractions[:] = [sample for sample in resolution.retractions if sample.id not in leaving]
    return resolution

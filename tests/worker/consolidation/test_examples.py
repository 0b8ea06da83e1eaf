"""Examples."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from pawl.domain.samples import Origin, Sample, SampleState, Split
from worker.consolidation.data.examples import label_spaces, make_examples

_NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _samples(**counts: int) -> list[Sample]:
    first = Sample(
        "", 0, "default", "", "", "", 1.0, None, Origin.FEEDBACK, None, None, None, Split.TRAIN, False,
        SampleState.LEARNED, None, 1, False, _NOW, _NOW,
    )  # fmt: skip
    return [
        replace(first, id=f"{label}{k}", text=f"{label} {k}", label=label)
        for label, count in counts.items()
        for k in range(count)
    ]


def test_the_targets_have_the_weights_of_the_samples() -> None:
    samples = [replace(sample, weight=2.0 + k) for k, sample in enumerate(_samples(a=1, b=3))]
    spaces = label_spaces(samples, {})
    examples = make_examples(samples, spaces, lambda texts: [[1] for _ in texts], {})
    assert [example.targets[0].weight for example in examples] == [2.0, 3.0, 4.0, 5.0]

"""Class weights."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from pawl.domain.samples import Origin, Sample, SampleState, Split
from worker.consolidation.data.examples import class_weights, label_spaces, make_examples

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


@pytest.mark.parametrize(("policy", "ratio"), [("off", 1.0), ("sqrt", 3.0), ("balanced", 9.0)])
def test_rare_classes_weigh_more_and_the_mean_is_one(policy: str, ratio: float) -> None:
    samples = _samples(rare=10, common=90)
    weights = class_weights(samples, policy)  # type: ignore[arg-type]  # parametrised
    assert weights["default", "rare"] / weights["default", "common"] == pytest.approx(ratio)
    assert sum(weights[s.task, s.label] for s in samples) == pytest.approx(100)


def test_the_weights_multiply_those_of_the_samples() -> None:
    samples = [replace(sample, weight=2.0) for sample in _samples(a=1, b=3)]
    spaces = label_spaces(samples, {})
    examples = make_examples(samples, spaces, lambda texts: [[1] for _ in texts], {}, {("default", "a"): 1.5})
    assert [example.targets[0].weight for example in examples] == [3.0, 2.0, 2.0, 2.0]

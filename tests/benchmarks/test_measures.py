"""The measures: forgetting with the label space held fixed and without, percentiles, splits."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.class_incremental import Course, deal, forgetting, measure
from benchmarks.consolidation import split
from benchmarks.correction_latency import percentile
from benchmarks.datasets import Labelled, invented, one_of_each, read_phrasebank
from benchmarks.harness import BenchmarkFailed
from benchmarks.traffic import Answers


def test_a_new_label_that_wins_counts_as_classic_but_not_as_cumulative_forgetting() -> None:
    rows = [Labelled("p", "a"), Labelled("q", "b")]
    course = Course([["a", "b"], ["c"]], [], [*rows, Labelled("r", "c")])
    first = measure(course, 0, rows, Answers(["a", "b"], [{"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 0.6}], [1], 1.0))
    scores = [{"a": 0.3, "b": 0.1, "c": 0.6}, {"a": 0.1, "b": 0.7, "c": 0.2}, {"a": 0.1, "b": 0.1, "c": 0.8}]
    second = measure(course, 1, course.test, Answers(["c", "b", "c"], scores, [2], 1.0))
    assert (first.fixed, first.open, first.overall) == ([100.0], [100.0], 100.0)
    assert second.fixed == [100.0, pytest.approx(200 / 3)]
    assert second.open == [50.0, 100.0]
    assert forgetting([first.fixed, second.fixed], with_last=True) == [0.0]
    assert forgetting([first.open, second.open], with_last=False) == [50.0]


def test_forgetting_compares_with_the_best_that_ever_was() -> None:
    table = [[90.0], [95.0, 80.0], [94.0, 82.0, 70.0]]
    assert forgetting(table, with_last=True) == [1.0, 0.0]
    assert forgetting(table, with_last=False) == [1.0, -2.0]


def test_classes_are_dealt_once_each() -> None:
    labels = [f"label {number}" for number in range(77)]
    steps = deal(labels, 40, 4, random.Random(3))
    assert [len(step) for step in steps] == [40, 10, 9, 9, 9]
    assert sorted(label for step in steps for label in step) == sorted(labels)
    assert steps == deal(labels, 40, 4, random.Random(3))
    with pytest.raises(BenchmarkFailed, match="cannot be dealt"):
        deal(labels, 76, 4, random.Random(3))


@pytest.mark.parametrize("share", [50, 95])
@pytest.mark.parametrize("count", [1, 7, 20, 200])
def test_percentiles_are_values_that_occurred(count: int, share: int) -> None:
    values = [random.Random(count).random() for _ in range(count)]
    assert percentile(values, share) == np.percentile(values, share, method="inverted_cdf")


def test_the_split_has_no_text_on_both_sides() -> None:
    rows = one_of_each([*invented(8, 40, random.Random(2)), Labelled("A  b", "x"), Labelled("a B", "y")])
    assert len(rows) == 321
    assert rows[-1] == Labelled("a B", "y")
    train, test = split(rows, 0.8, random.Random(0))
    assert (len(train), len(test)) == (257, 64)
    assert not {row.text for row in train} & {row.text for row in test}


def test_sentences_of_the_phrasebank_may_hold_an_at_sign(tmp_path: Path) -> None:
    (tmp_path / "Sentences_50Agree.txt").write_bytes(
        "Pöyry wrote to a@b .@neutral\r\nUp 5 % .@positive\r\n".encode("latin-1")
    )
    assert read_phrasebank(tmp_path) == [
        Labelled("Pöyry wrote to a@b .", "neutral"),
        Labelled("Up 5 % .", "positive"),
    ]
    with pytest.raises(BenchmarkFailed, match="nowhere"):
        read_phrasebank(tmp_path / "nowhere")

"""The measures of OOS are what they say, and its program asks the version that learned a correction."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score, roc_curve

from benchmarks.datasets import invented
from benchmarks.harness import BenchmarkFailed
from benchmarks.learning import oos
from benchmarks.learning.answers import Questions
from benchmarks.learning.data import load_out_of_scope
from benchmarks.learning.pawl_learner import workshop
from benchmarks.learning.scope import auroc, calibration_error, kept_outside

pytestmark = pytest.mark.usefixtures("tiny")


def test_auroc_and_false_positive_rate_are_those_of_the_roc_curve() -> None:
    rng = np.random.default_rng(0)
    inside, outside = rng.normal(0, 1, 400).round(1), rng.normal(1.5, 1, 90).round(1)
    is_inside = np.r_[np.ones(400), np.zeros(90)]
    looks_inside = -np.r_[inside, outside]
    assert auroc(inside, outside) == pytest.approx(roc_auc_score(is_inside, looks_inside))
    false, true, _ = roc_curve(is_inside, looks_inside, drop_intermediate=False)
    assert kept_outside(inside, outside) == pytest.approx(false[true >= 0.95][0])


def test_what_is_apart_is_told_apart_and_what_is_equal_is_not() -> None:
    low, high = np.arange(20.0), np.arange(20.0, 30.0)
    assert (auroc(low, high), auroc(high, low), auroc(low, low)) == (1.0, 0.0, 0.5)
    assert (kept_outside(low, high), kept_outside(high, low)) == (0.0, 1.0)


def test_calibration_error_is_the_formula() -> None:
    confidence = np.array([0.9, 0.2, 0.6, 0.5, 0.3, 0.8, 1.0])
    right = np.array([True, False, True, False, True, False, True])
    first, second = 2 / 4 - (0.2 + 0.3 + 0.5 + 0.6) / 4, 2 / 3 - (0.8 + 0.9 + 1.0) / 3
    assert calibration_error(confidence, right, bins=2) == pytest.approx(4 / 7 * abs(first) + 3 / 7 * abs(second))
    assert calibration_error(confidence[:0], right[:0]) == 0.0
    rng = np.random.default_rng(1)
    p = rng.uniform(0.3, 1.0, 50_000)
    assert calibration_error(p, rng.uniform(size=50_000) < p) < 0.02
    assert calibration_error(p, rng.uniform(size=50_000) < p - 0.1) == pytest.approx(0.1, abs=0.02)


async def test_corrections_are_asked_of_the_version_that_learned_them(tmp_path: Path) -> None:
    rows = invented(6, 30, random.Random(0))
    unknown = rows[0].label
    known = [row for row in rows if row.label != unknown]
    with workshop(tmp_path) as shop:
        pawl, others = shop.pawl(), Questions(known[90:])
        await pawl.learn(known[:60])
        asked = [*known[60:90], *(row for row in rows if row.label == unknown)][:40]
        wrong = [row for row in asked if row.label == unknown]
        before = (await pawl.scores(others)).right(others.rows)
        found = await oos._correct(pawl, asked, others, None)
        assert found["given"] >= len(wrong) == 10
        assert found["given"] >= found["learned"] >= found["held"] > 0
        assert found["held_at_last"] >= (await pawl.scores(Questions(wrong))).right(wrong).sum() > 0
        after = (await pawl.scores(others)).right(others.rows)
        assert (found["others_before"], found["others_after"]) == (100 * before.mean(), 100 * after.mean())
        again = await oos._correct(pawl, asked, others, 0)
        assert (again["given"], again["held_at_last"]) == (0, 0)
        await pawl.close()


def test_out_of_scope_texts_are_those_of_the_test_part(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkFailed, match="data_full"):
        load_out_of_scope(tmp_path)
    (tmp_path / "clinc150").mkdir()
    parts = {"oos_train": [["a", "oos"]], "oos_val": [["b", "oos"]], "oos_test": [["c", "oos"], ["d", "oos"]]}
    (tmp_path / "clinc150" / "data_full.json").write_text(json.dumps(parts))
    assert load_out_of_scope(tmp_path) == ["c", "d"]

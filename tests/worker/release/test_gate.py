"""The gate: refuses what is worse in whole or in one class, passes what is not, and fails closed."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from pawl.settings import Settings
from worker.model.class_balance import NEVER
from worker.model.evaluation_rows import EvaluationItem
from worker.model.proposal import PairedScores
from worker.release.gate import Evidence, judge, paired_test

SETTINGS = Settings()
LABELS = ("a", "b", "c", "d")


def scores(right: np.ndarray, targets: np.ndarray) -> torch.Tensor:
    """Scores whose best label is the target where `right`, the next label elsewhere."""
    answers = np.where(right, targets, (targets + 1) % len(LABELS))
    return torch.nn.functional.one_hot(torch.from_numpy(answers), len(LABELS)).double()


def evidence(
    live: np.ndarray, candidate: np.ndarray, targets: np.ndarray, *, pinned: bool = False, new: int = 0
) -> Evidence:
    items = [EvaluationItem(f"s{i}", int(t), 1.0, f"{i:04x}", True, False, pinned) for i, t in enumerate(targets)]
    arrivals = torch.zeros(new, dtype=torch.int64)
    ours = torch.nn.functional.one_hot(arrivals, len(LABELS)).double()
    paired = PairedScores(
        LABELS,
        items,
        torch.from_numpy(targets),
        scores(live, targets),
        scores(candidate, targets),
        arrivals,
        ours,
        ours,
    )
    return Evidence(paired, 0.1, 0.1, [None] * new)


def panel(size: int = 400) -> tuple[np.ndarray, np.ndarray]:
    return np.ones(size, dtype=bool), np.arange(size) % len(LABELS)


def test_an_equal_candidate_passes() -> None:
    live, targets = panel()
    report = judge({"default": evidence(live, live, targets, new=3)}, SETTINGS)
    assert report.accepted
    assert report.reasons == []
    assert report.tasks["default"].overall.items == 400
    assert report.tasks["default"].prequential == 1.0
    assert report.thresholds["gate_alpha"] == SETTINGS.gate_alpha


def test_a_report_is_stored_whole() -> None:
    live, targets = panel()
    report = judge({"default": evidence(live, ~live, targets, new=3, pinned=True)}, SETTINGS, size_bytes=7)
    stored = json.loads(json.dumps(report.to_json()))
    assert stored == json.loads(json.dumps(asdict(report)))
    assert len(stored["tasks"]["default"]["classes"]) == len(LABELS)


def test_a_worse_candidate_is_refused_with_the_reason() -> None:
    live, targets = panel()
    worse = live.copy()
    worse[:40] = False
    report = judge({"default": evidence(live, worse, targets)}, SETTINGS)
    assert not report.accepted
    assert any("accuracy falls from 1.0000 to 0.9000" in reason for reason in report.reasons)


def test_a_loss_in_one_class_is_refused_though_the_whole_gains() -> None:
    targets = np.concatenate([np.zeros(40, dtype=np.int64), np.arange(1000) % 3 + 1])
    live = np.ones(len(targets), dtype=bool)
    live[100:140] = False
    candidate = np.ones(len(targets), dtype=bool)
    candidate[:18] = False
    report = judge({"default": evidence(live, candidate, targets)}, SETTINGS)
    assert report.tasks["default"].overall.candidate > report.tasks["default"].overall.live
    assert not report.accepted
    assert [reason for reason in report.reasons if "class 'a'" in reason]


def test_a_small_loss_that_chance_explains_passes() -> None:
    live, targets = panel()
    candidate = live.copy()
    candidate[:2] = False
    assert judge({"default": evidence(live, candidate, targets)}, SETTINGS).accepted


def test_a_pinned_sample_must_not_break() -> None:
    live, targets = panel(20)
    candidate = live.copy()
    candidate[3] = False
    assert judge({"default": evidence(live, candidate, targets)}, SETTINGS).accepted
    report = judge({"default": evidence(live, candidate, targets, pinned=True)}, SETTINGS)
    assert not report.accepted
    assert report.tasks["default"].pinned_broken == ["s3"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("forced", [None, "retraction"])
def test_numbers_that_are_not_finite_never_pass(bad: float, forced: str | None) -> None:
    live, targets = panel(20)
    case = evidence(live, live, targets)
    case.paired.candidate[0, 0] = bad
    assert not judge({"default": case}, SETTINGS, forced=forced).accepted


def test_forced_passes_a_loss_and_says_so() -> None:
    live, targets = panel()
    report = judge({"default": evidence(live, ~live, targets)}, SETTINGS, forced="retraction")
    assert report.accepted
    assert report.forced == "retraction"
    assert report.reasons


def test_size_and_latency_have_budgets() -> None:
    live, targets = panel(20)
    case = {"default": evidence(live, live, targets)}
    assert not judge(case, SETTINGS, size_bytes=SETTINGS.gate_max_bytes + 1).accepted
    assert not judge(case, SETTINGS, latency_ratio=SETTINGS.gate_max_latency_ratio * 1.01).accepted
    assert not judge(case, SETTINGS, latency_ratio=math.nan).accepted
    assert judge(case, SETTINGS, size_bytes=1, latency_ratio=1.0).accepted


def test_a_head_that_knows_no_label_is_right_about_nothing() -> None:
    live, targets = panel(40)
    case = evidence(live, live, targets)
    case.paired.live[:] = NEVER
    report = judge({"default": case}, SETTINGS)
    assert report.tasks["default"].overall.live == 0.0
    assert report.accepted


@given(outcomes=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_the_paired_test_is_the_exact_one_sided_mcnemar(outcomes: list[tuple[bool, bool]]) -> None:
    live = np.array([a for a, _ in outcomes], dtype=bool)
    candidate = np.array([b for _, b in outcomes], dtype=bool)
    found = paired_test(live, candidate)
    lost, gained = int((live & ~candidate).sum()), int((~live & candidate).sum())
    assert (found.lost, found.gained) == (lost, gained)
    expected = binomtest(lost, lost + gained, 0.5, alternative="greater").pvalue if lost + gained else 1.0
    assert math.isclose(found.p_value, expected, rel_tol=1e-9)
    assert found.interval[0] <= found.candidate - found.live + 1e-12
    assert found.interval[1] >= found.candidate - found.live - 1e-12


@pytest.mark.parametrize(("items", "is_judged"), [(296, False), (400, True)])
def test_calibration_is_judged_where_its_error_is_more_than_chance(items: int, is_judged: bool) -> None:
    live, targets = panel(items)
    surer = evidence(live, live, targets)
    unsure = Evidence(surer.paired, surer.live_temperature, 5.0, [])
    report = judge({"default": unsure}, SETTINGS)
    assert (report.tasks["default"].ece_candidate is not None) is is_judged
    assert report.accepted is not is_judged

"""Harm is measured with the label space held fixed; texts that go to a new label are a trade, reported by name."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pawl.settings import Settings
from worker.model.class_balance import NEVER
from worker.model.evaluation_rows import EvaluationItem
from worker.model.proposal import PairedScores
from worker.release.gate import Evidence, judge

SETTINGS = Settings()
LABELS = ("refund_status", "card", "refund")
OLD, OTHER, NEW = range(3)


def grown(taken: int, gained: int, *, of: int = 40, golden: bool = False, second: int = OLD) -> Evidence:
    """40 texts of each known label, all right before; the new label takes some of `refund_status`, whose second best
    answer is `second`, and is right on `gained` of its own.
    """
    targets = np.array([OLD] * 40 + [OTHER] * 40 + [NEW] * of)
    live = torch.nn.functional.one_hot(torch.from_numpy(np.where(targets == NEW, OTHER, targets)), 3).double()
    live[:, NEW] = NEVER
    answers = targets.copy()
    answers[:taken] = NEW
    answers[80 + gained :] = OTHER
    candidate = torch.nn.functional.one_hot(torch.from_numpy(answers), 3).double()
    candidate[:taken, second] = 0.5
    items = [
        EvaluationItem(f"s{i}", int(t), 1.0, f"{i:04x}", False, golden and t == OLD, False)
        for i, t in enumerate(targets)
    ]
    new = torch.full((of,), NEW)
    ours = torch.nn.functional.one_hot(new, 3).double()
    paired = PairedScores(LABELS, items, torch.from_numpy(targets), live, candidate, new, ours, ours, (NEW,))
    return Evidence(paired, 0.1, 0.1, [None] * of)


def test_a_trade_that_clearly_gains_is_accepted_and_named() -> None:
    report = judge({"default": grown(taken=9, gained=36)}, SETTINGS)
    assert report.accepted, report.reasons
    found = report.tasks["default"]
    assert (found.known.live, found.known.candidate, found.forgetting.lost) == (1.0, 1.0, 0)
    [overlap] = found.overlaps
    assert (overlap.label, overlap.old_label, overlap.taken, overlap.items) == ("refund", "refund_status", 9, 40)
    assert (overlap.gained, overlap.own) == (36, 40)
    assert overlap.sentence == ("refund takes 9 of 40 texts of refund_status: the same thing? `pawl labels merge`")


@pytest.mark.parametrize(("taken", "gained"), [(20, 24), (30, 10), (8, 12)])
def test_a_trade_without_a_clear_gain_is_refused(taken: int, gained: int) -> None:
    report = judge({"default": grown(taken, gained)}, SETTINGS)
    assert not report.accepted
    assert any("class 'refund_status' falls from 1.000 to" in reason for reason in report.reasons)
    assert any("the same thing?" in reason for reason in report.reasons)
    assert "overlap 'refund'" in report.charges["default"]


def test_a_young_label_may_take_as_few_as_chance_would() -> None:
    assert judge({"default": grown(taken=3, gained=0, of=1)}, SETTINGS).accepted


def test_a_trade_is_held_to_the_losses_that_the_settings_allow() -> None:
    open_gate = Settings(gate_max_drop=1.0, gate_max_class_drop=1.0)
    evidence = {"default": grown(taken=30, gained=0, of=1)}
    assert not judge(evidence, SETTINGS).accepted
    report = judge(evidence, open_gate)
    assert report.accepted, report.reasons
    assert report.tasks["default"].overlaps[0].taken == 30


def test_old_texts_confused_among_old_labels_are_harm_whatever_the_new_label_gains() -> None:
    report = judge({"default": grown(taken=15, gained=40, second=OTHER)}, SETTINGS)
    assert not report.accepted
    assert report.tasks["default"].known.lost == 15
    assert "class 'refund_status'" in report.charges["default"]


def test_a_golden_text_that_goes_to_a_new_label_is_harm() -> None:
    assert judge({"default": grown(taken=9, gained=36)}, SETTINGS).accepted
    report = judge({"default": grown(taken=9, gained=36, golden=True)}, SETTINGS)
    assert not report.accepted
    assert report.charges["default"] == ["golden accuracy"]


def test_a_part_of_what_was_refused_may_not_add_to_it_and_need_not_make_it_good() -> None:
    """Two answers of a class are chance by themselves; where the whole was refused for that class they are not."""
    targets = torch.tensor([OLD] * 20 + [OTHER] * 20)
    items = [EvaluationItem(f"s{i}", int(t), 1.0, f"{i:04x}", False, False, False) for i, t in enumerate(targets)]
    right = torch.nn.functional.one_hot(targets, 3).double()
    wrong = right.clone()
    wrong[:2] = torch.tensor([0.0, 1.0, 0.0]).double()
    none, no_scores = torch.zeros(0, dtype=torch.int64), right[:0]
    paired = PairedScores(LABELS, items, targets, right, wrong, none, no_scores, no_scores, (), right)
    charged = {"default": ["class 'refund_status'"]}
    case = Evidence(paired, 0.1, 0.1, [])
    assert judge({"default": case}, SETTINGS).accepted
    assert not judge({"default": case}, SETTINGS, charged=charged).accepted
    spent = replace(case, paired=replace(paired, present=wrong))  # those before it had cost these two
    assert judge({"default": spent}, SETTINGS, charged=charged).accepted

"""The words monitor speaks when answers by words are worse than promised, and not when only mistakes are reported."""

from __future__ import annotations

import random
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pawl.settings import Settings
from worker.release.words_monitor import Promise, WordsTally

SETTINGS = Settings()
PROMISE = Promise(words=0.97, rest=0.85, lost=0.5)


def arrive(
    tally: WordsTally, chance: random.Random, labels: int, words: float, both: float, report: float, confirm: float
) -> bool:
    """Labels come more readily (`report` against `confirm`) where the answer was wrong; whether the monitor spoke."""
    failed = False
    for _ in range(labels):
        if chance.random() < 0.5:  # a text that both heads answer
            is_right = chance.random() < PROMISE.rest
            if chance.random() < (confirm if is_right else report):
                tally.others.count(is_confirmed=is_right, memory=SETTINGS.probation_window)
            continue
        by_words, by_both = chance.random() < words, chance.random() < both
        if chance.random() < (confirm if by_words else report):
            tally.outcomes.append((by_words, by_both))
            failed = failed or tally.has_failed(PROMISE, SETTINGS)
    return failed


def tally_of(window: int = SETTINGS.probation_window) -> WordsTally:
    return WordsTally(deque(maxlen=window))


# The same draws every time: p is limited, not 0, so of some thousand seeds one fails (31065 does, with 1 and 1).
@settings(derandomize=True)
@given(seed=st.integers(0, 2**31), report=st.floats(0.1, 1.0), confirm=st.floats(0.1, 1.0))
def test_words_as_good_as_promised_do_not_fail_however_mistakes_are_reported(
    seed: int, report: float, confirm: float
) -> None:
    assert not arrive(tally_of(), random.Random(seed), 1500, 0.97, 0.97, report, confirm)


@pytest.mark.parametrize("report", [0.2, 0.8])
def test_words_that_are_worse_fail_and_the_sentence_says_how(report: float) -> None:
    tally = tally_of()
    assert arrive(tally, random.Random(3), 3000, 0.70, 0.97, report, 0.2)
    assert "labels for answers by words alone" in tally.sentence(PROMISE)


def test_before_the_users_are_known_only_a_clear_case_speaks() -> None:
    tally = tally_of()
    tally.outcomes.extend([(False, True)] * 19 + [(True, True)] * 100)
    assert not tally.has_failed(PROMISE, SETTINGS), "fewer than probation_items differ"
    tally.outcomes.extend([(False, True)] * 30)
    assert not tally.has_failed(PROMISE, SETTINGS), "the users may report mistakes ten times as readily"
    tally.others.items, tally.others.confirmed = 200.0, 170.0  # they confirm as readily as they correct
    assert tally.has_failed(PROMISE, SETTINGS)


def test_what_may_be_lost_by_the_setting_is_no_failure() -> None:
    allowed = Promise(words=0.9, rest=0.85, lost=0.9)
    tally = tally_of()
    tally.others.items, tally.others.confirmed = 200.0, 170.0
    tally.outcomes.extend([(False, True)] * 45 + [(True, False)] * 5 + [(True, True)] * 400)
    assert not tally.has_failed(allowed, SETTINGS)
    assert tally.has_failed(PROMISE, SETTINGS)

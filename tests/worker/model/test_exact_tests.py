"""Exact tests equal those of scipy, at every count."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from worker.model.exact_tests import McNemar, binomial_tail


@given(lost=st.integers(0, 60), gained=st.integers(0, 60))
def test_mcnemar_is_a_binomial_test_of_the_outcomes_that_differ(lost: int, gained: int) -> None:
    test, n = McNemar(lost, gained), lost + gained
    if not n:
        assert (test.p_worse, test.p_better, test.p_differs) == (1.0, 1.0, 1.0)
        return
    assert test.p_worse == pytest.approx(binomtest(lost, n, alternative="greater").pvalue)
    assert test.p_better == pytest.approx(binomtest(gained, n, alternative="greater").pvalue)
    assert test.p_differs == pytest.approx(binomtest(lost, n).pvalue)


@given(trials=st.integers(1, 60), share=st.floats(0.01, 0.99), data=st.data())
def test_the_tail_is_a_one_sided_binomial_test(trials: int, share: float, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    expected = binomtest(hits, trials, share, alternative="greater").pvalue
    assert binomial_tail(hits, trials, share) == pytest.approx(expected)


def test_outcomes_are_counted_in_pairs() -> None:
    assert McNemar.of([True, True, False, False, True], [True, False, True, True, False]) == McNemar(2, 2)

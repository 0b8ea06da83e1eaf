"""Learning rate and early stopping."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.consolidation.training.schedule import EarlyStopping, Evaluation, learning_rate_factor


def test_the_rate_rises_to_its_peak_and_falls_to_zero() -> None:
    factors = [learning_rate_factor(step, 10, 0.2) for step in range(10)]
    assert factors == pytest.approx([0.5, 1.0, 1.0, 0.875, 0.75, 0.625, 0.5, 0.375, 0.25, 0.125])


@given(steps=st.integers(1, 500), warmup=st.floats(0, 1))
def test_every_step_learns_and_none_exceeds_the_peak(steps: int, warmup: float) -> None:
    factors = [learning_rate_factor(step, steps, warmup) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert max(factors) == 1


def _evaluations(*accuracies: float) -> list[Evaluation]:
    return [Evaluation(step, accuracy, 1.0) for step, accuracy in enumerate(accuracies)]


def test_stopping_waits_for_as_many_evaluations_as_its_patience() -> None:
    stopping = EarlyStopping(patience=2)
    seen = [(stopping.note(e), stopping.exhausted) for e in _evaluations(0.5, 0.6, 0.55, 0.61, 0.6, 0.61)]
    assert seen == [(True, False), (True, False), (False, False), (True, False), (False, False), (False, True)]
    assert stopping.best is not None
    assert stopping.best.step == 3


def test_of_equal_accuracies_the_smaller_loss_is_better() -> None:
    stopping = EarlyStopping(patience=1)
    stopping.note(Evaluation(0, 0.5, 1.0))
    assert stopping.note(Evaluation(1, 0.5, 0.9))
    assert not stopping.note(Evaluation(2, 0.5, 0.9))

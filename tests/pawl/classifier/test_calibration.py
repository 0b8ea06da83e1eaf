import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax as reference_softmax

from pawl.classifier.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    expected_calibration_error,
    fit_temperature,
    softmax,
)


def _draw(temperature: float, n: int, classes: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and targets drawn from softmax(scores / temperature)."""
    rng = np.random.default_rng(0)
    scores = rng.uniform(0, 1, (n, classes))
    odds = reference_softmax(scores / temperature, axis=1)
    return scores, np.array([rng.choice(classes, p=row) for row in odds])


def test_softmax_agrees_with_scipy_and_survives_large_scores() -> None:
    scores = np.array([[1e4, 1e4 - 1, -1e4], [0.1, 0.2, 0.3]], dtype=np.float32)
    np.testing.assert_allclose(softmax(scores), reference_softmax(scores.astype(np.float64), axis=1), atol=1e-6)
    assert softmax(scores).dtype == np.float32
    assert softmax(scores.astype(np.float64)).dtype == np.float64


@pytest.mark.parametrize("temperature", [0.03, 0.1, 0.3, 1.0])
def test_the_temperature_that_made_the_labels_is_found(temperature: float) -> None:
    assert fit_temperature(*_draw(temperature, 4000)) == pytest.approx(temperature, rel=0.1)


def test_the_fit_is_a_minimum_of_the_likelihood_and_the_prior() -> None:
    scores, targets = _draw(0.2, 500)

    def loss(t: float) -> float:
        odds = reference_softmax(scores / t, axis=1)[np.arange(len(targets)), targets]
        return float(-np.log(odds).sum() + (np.log(t / 0.1) / 0.5) ** 2 / 2)

    grid = np.geomspace(MIN_TEMPERATURE, MAX_TEMPERATURE, 4000)
    assert fit_temperature(scores, targets) == pytest.approx(grid[np.argmin([loss(t) for t in grid])], rel=0.01)


def test_no_targets_give_the_prior_and_few_stay_near_it() -> None:
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == pytest.approx(0.1, rel=1e-3)
    assert fit_temperature(np.ones((9, 1)), np.zeros(9, int)) == pytest.approx(0.1, rel=1e-3)
    scores, targets = np.eye(3) * 0.8, np.arange(3)
    assert 0.05 < fit_temperature(scores, targets) < 0.12
    assert 0.1 < fit_temperature(scores, (targets + 1) % 3) < 0.6


@settings(max_examples=50)
@given(st.integers(0, 40), st.integers(1, 6), st.integers(0, 2**31))
def test_any_scores_give_a_temperature_within_its_bounds(n: int, classes: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = fit_temperature(rng.normal(0, 10.0, (n, classes)), rng.integers(0, classes, n))
    assert MIN_TEMPERATURE <= found <= MAX_TEMPERATURE * (1 + 1e-9)


def test_calibration_error_of_known_predictions() -> None:
    always_sure = np.tile([1.0, 0.0], (10, 1))
    assert expected_calibration_error(always_sure, np.zeros(10, int)) == 0.0
    assert expected_calibration_error(always_sure, np.ones(10, int)) == 1.0
    assert expected_calibration_error(always_sure, np.array([0] * 7 + [1] * 3)) == pytest.approx(0.3)
    two_bins = np.array([[0.95, 0.05], [0.95, 0.05], [0.55, 0.45], [0.55, 0.45]])
    # the bin of 0.95 has accuracy 1/2, that of 0.55 has 1: (2 * 0.45 + 2 * 0.45) / 4
    assert expected_calibration_error(two_bins, np.array([0, 1, 0, 0])) == pytest.approx(0.45)
    assert expected_calibration_error(np.zeros((0, 3)), np.zeros(0, int)) == 0.0


def test_the_fitted_temperature_calibrates() -> None:
    scores, targets = _draw(0.15, 8000)
    before = expected_calibration_error(softmax(scores), targets)
    after = expected_calibration_error(softmax(scores / fit_temperature(scores, targets)), targets)
    assert after < 0.02 < before


@pytest.mark.parametrize(
    ("scores", "targets"),
    [
        (np.zeros((2, 2)), np.zeros(3, int)),
        (np.zeros(2), np.zeros(2, int)),
        (np.full((2, 2), np.nan), np.zeros(2, int)),
        (np.zeros((2, 2)), np.array([0, 2])),
        (np.zeros((2, 2)), np.array([0, -1])),
    ],
)
def test_odd_input_is_refused(scores: np.ndarray, targets: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"values|targets"):
        fit_temperature(scores, targets)
    with pytest.raises(ValueError, match=r"values|targets"):
        expected_calibration_error(scores, targets)

"""The head fitted to given embeddings: exact leave-one-out, and the lambda that the learner would choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pawl.classifier.calibration import fit_temperature, softmax
from worker.consolidation.ridge_evaluation import answers, fit, fit_best, leave_one_out
from worker.model.hyperparameters import DEFAULT, FEWEST, GRID


def test_leave_one_out_equals_fitting_without_the_row() -> None:
    rng = np.random.default_rng(0)
    phi = rng.standard_normal((30, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 30).tolist()
    scores = leave_one_out(fit(phi, labels, 3, 0.7), phi, labels)
    for row in (0, 13, 29):
        rest = [k for k in range(30) if k != row]
        other = fit(phi[rest], [labels[k] for k in rest], 3, 0.7)
        torch.testing.assert_close(scores[row], torch.from_numpy(phi[row]).double() @ other.weights)


def test_the_best_lambda_is_larger_where_there_is_more_noise() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    clean = rng.standard_normal((200, 20)).astype(np.float32) * 0.3
    clean[:, 0] = 2.0 * labels - 1.0
    clean[:, 1] = 1.0
    clean *= 0.02  # so that lambda decides
    noisy = clean + 0.02 * rng.standard_normal((200, 20)).astype(np.float32)
    chosen = [fit_best(phi, labels.tolist(), 2).regularisation for phi in (clean, noisy)]
    assert chosen[0] < chosen[1]


def test_lambda_is_chosen_on_the_rows_that_judge() -> None:
    """Rows an encoder was trained on are clean; those to come are not, and only what is like them may decide."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    phi = np.concatenate([2.0 * labels[:, None] - 1.0, rng.standard_normal((200, 19)) * 0.3], axis=1)
    phi[100:] += rng.standard_normal((100, 20))
    phi = (0.02 * phi).astype(np.float32)
    clean, noisy = (fit_best(phi, labels.tolist(), 2, rows).regularisation for rows in (range(100), range(100, 200)))
    assert clean < noisy
    assert fit_best(phi, labels.tolist(), 2, range(FEWEST - 1)).regularisation == DEFAULT


@pytest.mark.parametrize("spread", [1.0, 2.0, 3.0])
def test_downhill_finds_the_lambda_that_trying_all_finds(spread: float) -> None:
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 5, 300)
    phi = (rng.standard_normal((5, 40))[labels] + spread * rng.standard_normal((300, 40))).astype(np.float32)
    phi *= np.float32(3**0.5) / np.linalg.norm(phi, axis=1, keepdims=True)  # as long as features are
    head, losses = fit(phi, labels.tolist(), 5, DEFAULT), {}
    for value in GRID:
        head.refit(value)
        scores = leave_one_out(head, phi, labels.tolist()).numpy()
        losses[value] = -np.log(softmax(scores / fit_temperature(scores, labels))[np.arange(300), labels]).mean()
    best = fit(phi, labels.tolist(), 5, min(losses, key=lambda value: losses[value]))
    chosen = fit_best(phi, labels.tolist(), 5)
    assert chosen.regularisation == best.regularisation
    assert answers(chosen, phi) == answers(best, phi)

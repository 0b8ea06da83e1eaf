"""Choosing lambda and the temperature on leave-one-out predictions, so that no data is set aside for it.

lambda minimises the leave-one-out negative log-likelihood at the temperature fitted for it. The statistics do not
depend on lambda, so choosing again costs one Cholesky factorisation for each value tried and loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pawl.classifier.calibration import fit_temperature, softmax
from worker.model.evaluation_set import EvaluationScores
from worker.model.proposal import PairedScores, RegularisationChoice
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel

LeftOut = Callable[[EvaluationScores], tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]
"""Scores under a head -> leave-one-out scores (n, C), and the column of the right label of each row."""

GRID = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Values of lambda tried; features have a squared norm of about 5 (three layers, R and the constant: 1 each)."""
DEFAULT = 0.1
GROWTH = 1.5
"""lambda is chosen again in the next quiet moment when the samples have grown by this factor."""
OVERDUE = 2.25
"""... and by this factor at once: under a steady stream there are no quiet moments."""
FEWEST = 20
"""Samples in the evaluation set below which lambda stays at the default and the temperature is not fitted."""


def is_due(model: TaskModel, growth: float = GROWTH) -> bool:
    """Whether the head has grown by this factor since lambda was chosen."""
    return len(model.evaluation) >= FEWEST and model.samples >= growth * max(model.regularisation_chosen_at, 1)


def choose_regularisation(model: TaskModel, stop: Callable[[], bool] = lambda: False) -> RegularisationChoice | None:
    """The lambda with the lowest leave-one-out loss of a model, and the number of its samples; changes nothing.

    None if there are too few evaluation items, or if `stop`, asked between factorisations, said that other work cannot
    wait.
    """
    if len(model.evaluation) < FEWEST:
        return None
    value = best_regularisation(
        model.head, model.evaluation.features, lambda scores: _known(model, model.leave_one_out(scores)), stop
    )
    return None if value is None else RegularisationChoice(value, model.samples)


def best_regularisation(
    head: RidgeHead, features: torch.Tensor, left_out: LeftOut, stop: Callable[[], bool] = lambda: False
) -> float | None:
    """The lambda on `GRID` with the lowest leave-one-out loss, downhill from the head's own until both sides are worse.

    Args:
        head: its statistics are used; it is not changed.
        features: phi (m, p) of the samples that judge.
        left_out: makes their leave-one-out scores out of the scores and leverages that they have under a head.
        stop: asked between factorisations; True ends the search, which then returns None.
    """
    # From the present lambda, since it rarely moves far: three factorisations of O(p^3) then, instead of eight.
    best = min(range(len(GRID)), key=lambda index: abs(math.log(GRID[index] / head.regularisation)))
    losses: dict[int, float] = {}
    while True:
        for index in range(max(best - 1, 0), min(best + 2, len(GRID))):
            if index in losses:
                continue
            if stop():
                return None
            losses[index] = _loss(head, GRID[index], features, left_out)
        lowest = min(losses, key=lambda index: losses[index])
        if lowest == best:
            return GRID[best]
        best = lowest


def choose_temperature(model: TaskModel) -> float:
    """Temperature that minimises the negative log-likelihood of the leave-one-out predictions (Guo et al. 2017)."""
    if len(model.evaluation) < FEWEST:
        return model.temperature
    scores, targets = _known(model, model.leave_one_out())
    return fit_temperature(scores, targets)


def temperature_of(paired: PairedScores) -> float | None:
    """The temperature that fits a candidate's own leave-one-out predictions; None where there are too few.

    For changes so large that the live temperature no longer fits: 100 samples became 6,000, accuracy rose from 42 to
    97 %, and the gate refused it because its calibration error had doubled.
    """
    if len(paired.targets) < FEWEST:
        return None
    return fit_temperature(paired.candidate.double().cpu().numpy(), paired.targets.cpu().numpy())


def _loss(head: RidgeHead, value: float, features: torch.Tensor, left_out: LeftOut) -> float:
    """Mean of -log p(label) in nats under lambda `value`, at the temperature that fits best."""
    # float64 whatever the head's precision: with a small lambda A is ill-conditioned, and losses differ by little.
    factor = head.factor(value)
    rows = features.to(torch.float64)
    half = torch.linalg.solve_triangular(factor, rows.T, upper=False)
    weights = torch.cholesky_solve(head.moments, factor)
    # half holds L^-1 phi in its columns, with L L^T = A: the squares add up to phi^T A^-1 phi.
    under = EvaluationScores((rows @ weights).to(head.dtype), half.square().sum(0).to(head.dtype))
    scores, targets = left_out(under)
    # At its own best temperature: else the scale of the scores, which shrinks as lambda grows, would decide.
    probabilities = softmax(scores / fit_temperature(scores, targets))
    return float(-np.log(np.clip(probabilities[np.arange(len(targets)), targets], 1e-12, None)).mean())


def _known(model: TaskModel, scores: torch.Tensor) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Rows whose class has another sample: the only one of its class cannot be right without itself."""
    targets = model.evaluation.targets
    seen: Sequence[int] = [index for index, target in enumerate(targets.tolist()) if model.counts[target] > 1]
    return scores[seen].double().cpu().numpy(), targets[seen].cpu().numpy()

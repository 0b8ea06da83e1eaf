"""Choosing lambda, words and the temperature on leave-one-out predictions, so that no data is set aside for it.

lambda minimises the leave-one-out negative log-likelihood at the temperature fitted for it. The statistics do not
depend on lambda, so choosing again costs one Cholesky factorisation for each value tried and loses nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch

from pawl.classifier.calibration import PRIOR_TEMPERATURE, fit_temperature
from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.proposal import Hyperparameters, PairedScores
from worker.model.ridge import RidgeHead
from worker.model.scored_features import EvaluationScores, StackedScores
from worker.model.task_model import TaskModel
from worker.model.words import choose_stacking, loss_of

LeftOut = Callable[[EvaluationScores], tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]]
"""Scores under a head -> leave-one-out scores (n, C), and the column of the right label of each row."""

GRID = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Values of lambda tried; semantic features have a squared norm of about 5 (three layers, R and the constant: 1 each),
lexical ones of 1.
"""
DEFAULT = 0.1
LEXICAL_DEFAULT = 0.3
UNFITTED = Hyperparameters({"semantic": DEFAULT, "lexical": LEXICAL_DEFAULT}, Stacking.SEMANTIC, PRIOR_TEMPERATURE)
"""Of heads for which nothing was chosen yet."""
GROWTH = 1.5
"""lambda is chosen again in the next quiet moment when the samples have grown by this factor."""
OVERDUE = 2.25
"""... and by this factor at once: under a steady stream there are no quiet moments."""
FEWEST = 20
"""Samples in the evaluation set below which lambda stays at the default and the temperature is not fitted."""


def is_due(model: TaskModel, growth: float = GROWTH) -> bool:
    """Whether the heads have grown by this factor since lambda was chosen."""
    return len(model.evaluation) >= FEWEST and model.samples >= growth * max(model.chosen_at, 1)


def choose(model: TaskModel, stop: Callable[[], bool] = lambda: False) -> Hyperparameters | None:
    """The lambda of each head with its lowest leave-one-out loss, then how they are stacked, then the temperature.

    Changes nothing. None if there are too few evaluation items, or if `stop`, asked between factorisations, said that
    other work cannot wait.
    """
    if len(model.evaluation) < FEWEST:
        return None
    rows, counts = model.evaluation.rows, model.counts
    known = _known(model)
    targets = rows.targets[known].cpu().numpy()

    def left_out(scores: EvaluationScores) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        return model.balance.leave_one_out(scores, rows, counts)[known].double().cpu().numpy(), targets

    chosen: dict[HeadName, float] = {}
    under: dict[HeadName, EvaluationScores] = {}
    for name, head in model.heads.items():
        best = _search(head, model.evaluation.features(name), left_out, stop)
        if best is None:
            return None
        chosen[name], under[name] = best
    stacking = choose_stacking(model, under, known)
    scores = model.balance.leave_one_out(StackedScores(under, stacking), rows, counts)[known]
    return Hyperparameters(chosen, stacking, fit_temperature(scores.double().cpu().numpy(), targets), model.samples)


def best_regularisation(head: RidgeHead, features: torch.Tensor, left_out: LeftOut) -> float:
    """The lambda on `GRID` with the lowest leave-one-out loss, downhill from the head's own until both sides are worse.

    Args:
        head: its statistics are used; it is not changed.
        features: phi (m, p) of the samples that judge.
        left_out: makes their leave-one-out scores out of the scores and leverages that they have under a head.
    """
    best = _search(head, features, left_out, lambda: False)
    return head.regularisation if best is None else best[0]


def _search(
    head: RidgeHead, features: torch.Tensor, left_out: LeftOut, stop: Callable[[], bool]
) -> tuple[float, EvaluationScores] | None:
    """See `best_regularisation`: the lambda, and what the samples get under it.

    `stop` is asked between factorisations; True ends the search, which then returns None.
    """
    # From the present lambda, since it rarely moves far: three factorisations of O(p^3) then, instead of eight.
    best = min(range(len(GRID)), key=lambda index: abs(math.log(GRID[index] / head.regularisation)))
    losses: dict[int, float] = {}
    under: dict[int, EvaluationScores] = {}
    while True:
        for index in range(max(best - 1, 0), min(best + 2, len(GRID))):
            if index in losses:
                continue
            if stop():
                return None
            under[index] = _scores_under(head, GRID[index], features)
            losses[index] = loss_of(*left_out(under[index]))
        lowest = min(losses, key=lambda index: losses[index])
        if lowest == best:
            return GRID[best], under[best]
        best = lowest


def choose_temperature(model: TaskModel) -> float:
    """Temperature that minimises the negative log-likelihood of the leave-one-out predictions (Guo et al. 2017)."""
    if len(model.evaluation) < FEWEST:
        return model.temperature
    known = _known(model)
    scores = model.leave_one_out()[known].double().cpu().numpy()
    return fit_temperature(scores, model.evaluation.targets[known].cpu().numpy())


def temperature_of(paired: PairedScores) -> float | None:
    """The temperature that fits a candidate's own leave-one-out predictions; None where there are too few.

    For changes so large that the live temperature no longer fits: 100 samples became 6,000, accuracy rose from 42 to
    97 %, and the gate refused it because its calibration error had doubled.
    """
    if len(paired.targets) < FEWEST:
        return None
    return fit_temperature(paired.candidate.double().cpu().numpy(), paired.targets.cpu().numpy())


def _scores_under(head: RidgeHead, value: float, features: torch.Tensor) -> EvaluationScores:
    """Scores and leverages of features (m, p) under the head's statistics with lambda `value`."""
    # float64 whatever the head's precision: with a small lambda A is ill-conditioned, and losses differ by little.
    system, rows = head.system(value), features.to(torch.float64)
    scores = rows @ system.solve(head.moments)
    return EvaluationScores(scores.to(head.dtype), system.leverages(rows).to(head.dtype))


def _known(model: TaskModel) -> list[int]:
    """Rows whose class has another sample: the only one of its class cannot be right without itself."""
    targets: Sequence[int] = model.evaluation.targets.tolist()
    return [index for index, target in enumerate(targets) if model.counts[target] > 1]

"""Choosing how much a task's lexical head counts beside the semantic one: "words", on exact leave-one-out of both.

Ties and noise are decided for what serves: another number is taken where it is clearly better, because every change of
it is another version, with answers that differ for no reason that its users would see.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from pawl.classifier.calibration import fit_temperature, softmax
from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.scored_features import EvaluationScores
from worker.model.task_model import TaskModel

Scores = npt.NDArray[np.float32]
Targets = npt.NDArray[np.int64]
GRID = tuple(round(step / 10, 1) for step in range(51))
"""Values of words tried."""
HYSTERESIS = 0.005
"""By which share of its loss another stacking must be better than the present one."""


def choose_stacking(model: TaskModel, under: Mapping[HeadName, EvaluationScores], known: Sequence[int]) -> Stacking:
    """The stacking with the lowest leave-one-out loss, or the model's own where none is clearly better.

    Args:
        model: with labels, counts and present stacking; nothing changes.
        under: what the evaluation rows get from each head.
        known: the rows that judge.
    """
    if len(under) < 2:
        return model.stacking
    rows = model.evaluation.rows
    weights = model.balance.item_weights(rows, model.counts)
    # Without prior corrections, which say nothing of the text, and of labels that can be answered.
    plain = {head: scores.leave_one_out(rows.targets, weights)[known] for head, scores in under.items()}
    columns = [column for column, count in enumerate(model.counts) if count]
    deviation = {head: float(rows_of[:, columns].double().std()) for head, rows_of in plain.items()}
    scores = {
        head: model.balance.leave_one_out(of_head, rows, model.counts)[known].float().cpu().numpy()
        for head, of_head in under.items()
    }
    targets = rows.targets[known].cpu().numpy()

    def loss(stacking: Stacking) -> float:
        # The shares add up to 1, so the prior corrections, which both have, are in once.
        both = stacking.semantic * scores["semantic"] + stacking.lexical * scores["lexical"]
        return loss_of(both, targets)

    tried = [Stacking.of(words, deviation["semantic"], deviation["lexical"]) for words in GRID]
    losses = [loss(stacking) for stacking in tried]
    best = int(np.argmin(losses))
    return tried[best] if losses[best] < (1.0 - HYSTERESIS) * loss(model.stacking) else model.stacking


def loss_of(scores: npt.NDArray[np.floating], targets: Targets) -> float:
    """Mean of -log p(label) in nats, at the temperature that fits best."""
    # At its own best temperature: else the scale of the scores, which shrinks as lambda grows, would decide.
    probabilities = softmax(scores / fit_temperature(scores, targets))
    return float(-np.log(np.clip(probabilities[np.arange(len(targets)), targets], 1e-12, None)).mean())

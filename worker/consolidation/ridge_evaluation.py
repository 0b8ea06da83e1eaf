"""The head that will serve, fitted to given embeddings, with its exact leave-one-out answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pawl.classifier.features import RandomFeatures
from pawl.domain.samples import Sample
from pawl.ports import Floats
from worker.model.hyperparameters import DEFAULT, FEWEST, best_regularisation
from worker.model.ridge import RidgeHead, RowChange
from worker.model.scored_features import EvaluationScores

_ROWS = 2048


def fit(phi: Floats, labels: Sequence[int], classes: int, regularisation: float) -> RidgeHead:
    """A ridge head on features phi, shape (n, p)."""
    head = RidgeHead(phi.shape[1], regularisation)
    head.absorb(RowChange(torch.from_numpy(phi), torch.tensor(labels), torch.ones(len(labels))), classes)
    head.refit()
    return head


def leave_one_out(head: RidgeHead, phi: Floats, labels: Sequence[int]) -> Tensor:
    """Scores (n, C) for each row by the head fitted without it, all of weight 1 (`EvaluationScores.leave_one_out`)."""
    # All weights are 1, without class weights and emphasis: what is compared is encoders, with the same simple head.
    targets, parts = torch.tensor(labels), []
    for start in range(0, len(phi), _ROWS):  # bounds the float64 copy of the rows
        rows = torch.from_numpy(phi[start : start + _ROWS]).double()
        under = EvaluationScores(rows @ head.weights, head.leverages(rows))
        parts.append(under.leave_one_out(targets[start : start + _ROWS], torch.ones(len(rows), dtype=torch.float64)))
    return torch.cat(parts)


def fit_best(phi: Floats, labels: Sequence[int], classes: int, judges: Sequence[int] | None = None) -> RidgeHead:
    """The head with the lambda of the lowest leave-one-out loss, chosen as the learner does.

    `judges` are the rows whose loss counts (all, where None): those that the encoder was not trained on. Features of a
    text it was trained on are cleaner than those of the texts to come, and ask for a lambda that is too small. With
    fewer than 20 of them lambda is the default.
    """
    head = fit(phi, labels, classes, DEFAULT)
    rows = list(range(len(labels)) if judges is None else judges)
    if len(rows) < FEWEST:
        return head
    targets = torch.tensor(labels)[rows]

    def left_out(scores: EvaluationScores) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        return scores.leave_one_out(targets, torch.ones(len(rows), dtype=torch.float64)).numpy(), targets.numpy()

    best = best_regularisation(head, torch.from_numpy(phi[rows]), left_out)
    if best != head.regularisation:
        head.refit(best)
    return head


def answers(head: RidgeHead, phi: Floats) -> list[int]:
    """The most likely class of each row."""
    return [int(k) for k in (torch.from_numpy(phi).double() @ head.weights).argmax(dim=1)]


def right_answers(
    encode: Callable[[Sequence[str]], Floats],
    features: RandomFeatures,
    known: Sequence[Sample],
    asked: Sequence[Sample],
    trained: Collection[str],
) -> list[bool]:
    """Which of `asked` the heads that would serve answer right, fitted to all `known` samples of each task, of which
    the encoder was trained on those with the ids `trained`.
    """
    right = [False] * len(asked)
    for task in {sample.task for sample in asked}:
        of_task = [sample for sample in known if sample.task == task]
        rows = [row for row, sample in enumerate(asked) if sample.task == task]
        names = sorted({sample.label for sample in of_task})
        if not names:
            continue
        phi = features.expand(encode([sample.text for sample in of_task]))
        judges = [row for row, sample in enumerate(of_task) if sample.id not in trained]
        head = fit_best(phi, [names.index(sample.label) for sample in of_task], len(names), judges)
        columns = answers(head, features.expand(encode([asked[row].text for row in rows])))
        for row, column in zip(rows, columns, strict=True):
            right[row] = names[column] == asked[row].label
    return right

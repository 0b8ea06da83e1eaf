"""The head that will serve, fitted to given embeddings, with its exact leave-one-out answers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import torch
from torch import Tensor

from pawl.classifier.calibration import fit_temperature
from pawl.classifier.features import RandomFeatures
from pawl.domain.samples import Sample
from pawl.ports import Floats
from worker.model.hyperparameters import DEFAULT, FEWEST, GRID
from worker.model.ridge import RidgeHead, RowChange

_ROWS = 2048


def fit(phi: Floats, labels: Sequence[int], classes: int, regularisation: float) -> RidgeHead:
    """A ridge head on features phi, shape (n, p)."""
    head = RidgeHead(phi.shape[1], regularisation)
    head.absorb(RowChange(torch.from_numpy(phi), torch.tensor(labels), torch.ones(len(labels))), classes)
    head.refit()
    return head


def leave_one_out(head: RidgeHead, phi: Floats, labels: Sequence[int]) -> Tensor:
    """Scores (n, C) for each row by the head fitted without it: y - (y - phi W) / (1 - phi^T A^-1 phi) (Allen 1974)."""
    scores = torch.empty(len(phi), head.classes, dtype=torch.float64)
    for start in range(0, len(phi), _ROWS):
        rows = torch.from_numpy(phi[start : start + _ROWS]).double()
        truth = torch.nn.functional.one_hot(torch.tensor(labels[start : start + _ROWS]), head.classes)
        leverage = ((rows @ head.inverse) * rows).sum(dim=1, keepdim=True)
        scores[start : start + _ROWS] = truth - (truth - rows @ head.weights) / (1.0 - leverage).clamp_min(1e-9)
    return scores


def losses(scores: Tensor, labels: Sequence[int], temperature: float) -> Floats:
    """-log softmax(scores / temperature)[label] of each row, in nats, shape (n,)."""
    logits = torch.log_softmax(scores / temperature, dim=1)
    return (-logits[torch.arange(len(labels)), torch.tensor(labels)]).float().numpy()


def fit_best(
    phi: Floats, labels: Sequence[int], classes: int, judges: Sequence[int] | None = None
) -> tuple[RidgeHead, float]:
    """The head with the lambda of the lowest leave-one-out loss, as the learner chooses it; returns that loss too.

    `judges` are the rows whose loss counts (all, where None): those that the encoder was not trained on. Features of a
    text it was trained on are cleaner than those of the texts to come, and ask for a lambda that is too small. With
    fewer than 20 of them lambda is the default.
    """
    rows = list(range(len(labels)) if judges is None else judges)
    if len(rows) < FEWEST:
        return fit(phi, labels, classes, DEFAULT), float("nan")
    mine = np.asarray(labels)[rows]
    head, found = fit(phi, labels, classes, GRID[0]), dict[float, float]()
    for value in GRID:
        head.refit(value)
        scores = leave_one_out(head, phi[rows], mine.tolist())
        temperature = fit_temperature(scores.numpy(), mine)
        found[value] = float(losses(scores, mine.tolist(), temperature).mean())
    best = min(found, key=lambda value: found[value])
    head.refit(best)
    return head, found[best]


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
        mine = [sample for sample in known if sample.task == task]
        rows = [row for row, sample in enumerate(asked) if sample.task == task]
        names = sorted({sample.label for sample in mine})
        if not names:
            continue
        phi = features.expand(encode([sample.text for sample in mine]))
        judges = [row for row, sample in enumerate(mine) if sample.id not in trained]
        head, _ = fit_best(phi, [names.index(sample.label) for sample in mine], len(names), judges)
        said = answers(head, features.expand(encode([asked[row].text for row in rows])))
        for row, column in zip(rows, said, strict=True):
            right[row] = names[column] == asked[row].label
    return right

"""Invented samples for tests of the learner: clusters on the sphere, one for each label, in the space of each head."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch

from pawl.classifier.stacking import Stacking
from pawl.domain.versions import HeadName
from worker.model.change import LabelledFeatures, ModelChange, stacked
from worker.model.class_balance import ClassBalance
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel

DIMENSION = 24
LEXICAL_DIMENSION = 16
DIMENSIONS: Mapping[HeadName, int] = {"semantic": DIMENSION, "lexical": LEXICAL_DIMENSION}
BOTH: tuple[HeadName, ...] = ("semantic", "lexical")
STACKED = Stacking(1.5, 0.6, 0.4)
BALANCE = ClassBalance(64, 0.03)


def examples(
    label: str, count: int, *, seed: int = 0, spread: float = 0.6, prefix: str = "s"
) -> list[LabelledFeatures]:
    """`count` samples of a label around its own centres; every third is held out."""
    own = [np.random.default_rng([seed, place, len(label), *label.encode()]) for place in range(len(DIMENSIONS))]
    found = []
    for number in range(count):
        features: dict[HeadName, torch.Tensor] = {}
        for (head, dimension), random in zip(DIMENSIONS.items(), own, strict=True):
            centre = _centre(label, dimension)
            vector = centre / np.linalg.norm(centre) + spread * random.standard_normal(dimension) / np.sqrt(dimension)
            features[head] = torch.from_numpy(vector).float()
        name = f"{prefix}-{label}-{seed}-{number}"
        order = hashlib.sha256(name.encode()).hexdigest()
        found.append(LabelledFeatures(name, label, 1.0, features, order, heldout=number % 3 == 0))
    return found


def _centre(label: str, dimension: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.random.default_rng(int.from_bytes(label.encode(), "big") % 2**32).standard_normal(dimension)


def learner(
    *,
    evaluation_limit: int = 1000,
    regularisation: float = 0.1,
    emphasis_limit: float = 8.0,
    dtype: torch.dtype = torch.float64,
    balance: ClassBalance = BALANCE,
    heads: Collection[HeadName] = BOTH,
) -> TaskModel:
    """An empty task with these heads; two of them are stacked 6 to 4."""
    ridges = {head: RidgeHead(DIMENSIONS[head], regularisation, dtype=dtype) for head in heads}
    task = TaskModel(ridges, evaluation_limit=evaluation_limit, balance=balance, emphasis_limit=emphasis_limit)
    if len(heads) > 1:
        task.stacking = STACKED
    return task


def teach(
    task: TaskModel,
    adds: list[LabelledFeatures],
    known: list[LabelledFeatures],
    removes: list[LabelledFeatures] | None = None,
    *,
    bulk: bool = False,
) -> list[LabelledFeatures]:
    """One committed change as the worker makes it, members included; returns who is in the head afterwards."""
    removes = removes or []
    labels = task.reweighted_labels([e.label for e in adds], [e.label for e in removes])
    members = {label: [e for e in known if e.label == label] for label in labels}
    task.apply(task.propose(ModelChange(adds, removes, members), bulk=bulk))
    gone = {e.sample_id for e in removes}
    return [e for e in known if e.sample_id not in gone] + adds


def direct_weights(task: TaskModel, known: Sequence[LabelledFeatures]) -> dict[HeadName, torch.Tensor]:
    """W of each head by one solve over all samples with their final class weights."""
    index = torch.tensor([task.labels.index(e.label) for e in known])
    counts = torch.bincount(index, minlength=len(task.labels)).tolist()
    weights = torch.tensor(
        [e.weight * task.class_weight(counts[i]) for e, i in zip(known, index.tolist(), strict=True)]
    )
    targets = torch.nn.functional.one_hot(index, len(task.labels)).double()
    solutions: dict[HeadName, torch.Tensor] = {}
    for head, rows in stacked(known, task.heads).items():
        features = rows.double()
        weighted = features * weights.double()[:, None]
        regularisation = task.heads[head].regularisation * torch.eye(features.shape[1], dtype=torch.float64)
        solutions[head] = torch.linalg.solve(weighted.T @ features + regularisation, weighted.T @ targets)
    return solutions


def weights_of(task: TaskModel) -> dict[HeadName, torch.Tensor]:
    """W of each head, copied."""
    return {name: head.weights.clone() for name, head in task.heads.items()}


def difference(found: Mapping[HeadName, torch.Tensor], right: Mapping[HeadName, torch.Tensor]) -> float:
    """The relative error of the weights, of the head where it is largest."""
    assert set(found) == set(right)
    return max(float((found[head] - right[head]).norm() / right[head].norm()) for head in right)

"""Invented samples for tests of the learner: clusters on the sphere, one for each label."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from worker.model.change import LabelledFeatures, ModelChange
from worker.model.class_balance import ClassBalance
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel

DIMENSION = 24
BALANCE = ClassBalance(64, 0.03)


def examples(
    label: str, count: int, *, seed: int = 0, spread: float = 0.6, prefix: str = "s"
) -> list[LabelledFeatures]:
    """`count` samples of a label around its own centre; every third is held out."""
    centre = np.random.default_rng(int.from_bytes(label.encode(), "big") % 2**32).standard_normal(DIMENSION)
    random = np.random.default_rng([seed, len(label), *label.encode()])
    found = []
    for number in range(count):
        vector = centre / np.linalg.norm(centre) + spread * random.standard_normal(DIMENSION) / np.sqrt(DIMENSION)
        name = f"{prefix}-{label}-{seed}-{number}"
        order = hashlib.sha256(name.encode()).hexdigest()
        found.append(
            LabelledFeatures(name, label, 1.0, torch.from_numpy(vector).float(), order, heldout=number % 3 == 0)
        )
    return found


def learner(
    *,
    evaluation_limit: int = 1000,
    regularisation: float = 0.1,
    emphasis_limit: float = 8.0,
    dtype: torch.dtype = torch.float64,
    balance: ClassBalance = BALANCE,
) -> TaskModel:
    head = RidgeHead(DIMENSION, regularisation, dtype=dtype)
    return TaskModel(head, evaluation_limit=evaluation_limit, balance=balance, emphasis_limit=emphasis_limit)


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


def direct_weights(task: TaskModel, known: list[LabelledFeatures]) -> torch.Tensor:
    """W by one solve over all samples with their final class weights."""
    features = torch.stack([e.features for e in known]).double()
    index = torch.tensor([task.labels.index(e.label) for e in known])
    counts = torch.bincount(index, minlength=len(task.labels)).tolist()
    weights = torch.tensor(
        [e.weight * task.class_weight(counts[i]) for e, i in zip(known, index.tolist(), strict=True)]
    )
    weighted = features * weights.double()[:, None]
    gram = weighted.T @ features + task.head.regularisation * torch.eye(DIMENSION, dtype=torch.float64)
    targets = torch.nn.functional.one_hot(index, len(task.labels)).double()
    solution: torch.Tensor = torch.linalg.solve(gram, weighted.T @ targets)
    return solution

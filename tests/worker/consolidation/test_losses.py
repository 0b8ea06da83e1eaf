"""The losses against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from worker.consolidation.data.batches import TaskTargets
from worker.consolidation.training.losses import (
    Objective,
    distillation,
    logit_matching,
    supervised_contrastive,
    weighted_cross_entropy,
)


def test_cross_entropy_is_the_weighted_sum_of_surprises() -> None:
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.25, 0.5, 0.25]])
    loss = weighted_cross_entropy(probabilities.log() + 3.0, torch.tensor([0, 2]), torch.tensor([1.0, 4.0]))
    assert loss.item() == pytest.approx(-math.log(0.7) - 4 * math.log(0.25), rel=1e-6)


def test_distillation_is_zero_with_zero_gradient_at_the_teacher() -> None:
    teacher = torch.tensor([[0.6, 0.3, 0.1]])
    logits = (teacher.log() - 1.5).requires_grad_()
    loss = distillation(logits, teacher, torch.ones(1), temperature=2.0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    assert loss.item() == pytest.approx(0.0, abs=1e-6)
    assert logits.grad is not None
    assert logits.grad.abs().max().item() < 1e-6


def test_distillation_is_the_softened_divergence_of_the_labels_the_teacher_knows() -> None:
    teacher, temperature = [0.8, 0.2], 2.0
    logits = torch.tensor([[0.5, -0.5, 9.0]])  # the third label is new: it must not count
    p = [value ** (1 / temperature) for value in teacher]
    p = [value / sum(p) for value in p]
    q = [math.exp(value / temperature) for value in (0.5, -0.5)]
    q = [value / sum(q) for value in q]
    expected = 3.0 * temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    loss = distillation(logits, torch.tensor([teacher]), torch.tensor([3.0]), temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_distillation_bears_a_teacher_that_is_certain() -> None:
    logits = torch.tensor([[2.0, -1.0]], requires_grad=True)
    loss = distillation(logits, torch.tensor([[1.0, 0.0]]), torch.ones(1), temperature=2.0)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    assert logits.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logits.grad).all()


def test_logit_matching_compares_centred_logits_of_the_labels_the_teacher_knows() -> None:
    teacher = torch.tensor([[1.0, 3.0, -1.0]]).softmax(dim=1)  # centred logits 0, 2, -2
    logits = torch.tensor([[11.0, 11.0, 8.0, 99.0]])  # centred over the three: 1, 1, -2
    assert logit_matching(logits, teacher, torch.tensor([5.0])).item() == pytest.approx(5 * (1 + 1 + 0) / 3, rel=1e-5)
    shifted = torch.tensor([[1.0, 3.0, -1.0, 0.0]]) + 7.0
    assert logit_matching(shifted, teacher, torch.ones(1)).item() == pytest.approx(0.0, abs=1e-9)


def test_the_contrastive_loss_is_the_mean_surprise_of_the_others_of_the_class() -> None:
    angles = torch.tensor([0.0, 0.3, 1.0, 2.0])
    z, labels = torch.stack([angles.cos(), angles.sin()], dim=1), torch.tensor([0, 0, 0, 1])
    weights, temperature = torch.tensor([1.0, 2.0, 3.0, 50.0]), 0.5
    expected = 0.0
    for i in range(3):  # the fourth has no other of its class
        likeness = [math.exp(math.cos(float(angles[i] - angles[a])) / temperature) for a in range(4)]
        others = sum(likeness) - likeness[i]
        expected -= float(weights[i]) * sum(math.log(likeness[p] / others) for p in range(3) if p != i) / 2
    loss = supervised_contrastive(z, labels, weights, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("labels", [[0], [0, 1, 2]])
def test_the_contrastive_loss_of_a_batch_without_pairs_is_zero_with_zero_gradient(labels: list[int]) -> None:
    z = torch.eye(3)[: len(labels)].clone().requires_grad_()
    loss = supervised_contrastive(z, torch.tensor(labels), torch.ones(len(labels)), 0.1)
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not annotate it
    assert loss.item() == 0.0
    assert z.grad is not None
    assert z.grad.abs().max().item() == 0.0


def _targets(labels: list[int], teacher: Tensor | None = None) -> TaskTargets:
    taught = torch.arange(0 if teacher is None else len(teacher))
    known = torch.zeros(0, 0) if teacher is None else teacher
    return TaskTargets(torch.arange(len(labels)), torch.tensor(labels), torch.ones(len(labels)), taught, known)


def test_the_objective_adds_its_terms_by_their_weights() -> None:
    torch.manual_seed(0)
    z, head = torch.nn.functional.normalize(torch.randn(4, 3), dim=1), nn.Linear(3, 2)
    teacher = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    targets, logits = _targets([0, 1, 0, 1], teacher), head(z)
    plain = weighted_cross_entropy(logits, targets.labels, targets.weights)
    assert torch.equal(Objective().loss(z, head, targets), plain)
    whole = Objective(distillation=0.5, logit_matching=0.25, contrastive=2.0).loss(z, head, targets)
    terms = (
        0.5 * distillation(logits[:2], teacher, torch.ones(2), 2.0)
        + 0.25 * logit_matching(logits[:2], teacher, torch.ones(2))
        + 2.0 * supervised_contrastive(z, targets.labels, targets.weights, 0.3)
    )
    assert whole.item() == pytest.approx((plain + terms).item(), rel=1e-6)


def test_mixup_of_rows_with_one_label_is_the_cross_entropy_of_their_mixtures() -> None:
    z, head = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), nn.Linear(2, 2)
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    partners = torch.randperm(2)
    torch.manual_seed(3)
    loss = Objective(mixup=0.4).loss(z, head, _targets([1, 1]))
    mixed = head(share * z + (1 - share) * z[partners])
    assert loss.item() == pytest.approx(-torch.log_softmax(mixed, dim=1)[:, 1].sum().item(), rel=1e-5)

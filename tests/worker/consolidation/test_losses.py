"""The losses against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from worker.consolidation.data.batches import TaskTargets
from worker.consolidation.training.losses import TaskOutput, weighted_cross_entropy
from worker.consolidation.training.methods.distillation import Distillation, distillation


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


def test_the_distillation_is_added_by_its_weight_and_on_taught_targets_alone() -> None:
    torch.manual_seed(0)
    z, head = torch.nn.functional.normalize(torch.randn(4, 3), dim=1), nn.Linear(3, 2)
    teacher = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    labels, plain = torch.tensor([0, 1, 0, 1]), torch.tensor(1.25)
    taught = TaskTargets(torch.arange(4), labels, torch.ones(4), torch.arange(2), teacher)
    untaught = TaskTargets(torch.arange(4), labels, torch.ones(4), torch.arange(0), torch.zeros(0, 0))
    method, logits = Distillation(0.5, 2.0), head(z)
    assert torch.equal(method.on_loss(plain, TaskOutput(z, head, logits, untaught)), plain)
    expected = plain + 0.5 * distillation(logits[:2], teacher, torch.ones(2), 2.0)
    assert method.on_loss(plain, TaskOutput(z, head, logits, taught)).item() == pytest.approx(expected.item())

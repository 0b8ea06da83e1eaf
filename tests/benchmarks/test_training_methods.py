"""The training methods that only the benchmarks know, against their closed forms."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from benchmarks.methods.averages import Interpolation, RunningAverage
from benchmarks.methods.freelb import FreeLB
from benchmarks.methods.terms import Contrastive, LogitMatching, Mixup, logit_matching, supervised_contrastive
from pawl.classifier.encoders.backends.torch import TorchEncoder
from tests.tiny_encoder import exported_tiny_encoder
from tests.worker.consolidation.test_methods import Probe
from tests.worker.consolidation.test_training import train_tiny
from worker.consolidation.data.batches import TaskTargets
from worker.consolidation.training.losses import TaskOutput
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.network import Network


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


def test_mixup_of_rows_with_one_label_is_the_cross_entropy_of_their_mixtures() -> None:
    z, head = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), nn.Linear(2, 2)
    torch.manual_seed(3)
    share = float(torch.distributions.Beta(0.4, 0.4).sample())
    partners = torch.randperm(2)
    torch.manual_seed(3)
    targets = TaskTargets(torch.arange(2), torch.tensor([1, 1]), torch.ones(2), torch.arange(0), torch.zeros(0, 0))
    loss = Mixup(0.4).on_loss(torch.zeros(()), TaskOutput(z, head, head(z), targets))
    mixed = head(share * z + (1 - share) * z[partners])
    assert loss.item() == pytest.approx(-torch.log_softmax(mixed, dim=1)[:, 1].sum().item(), rel=1e-5)


def _network(value: float) -> tuple[Network, Tensor]:
    encoder = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        encoder.weight.fill_(value)
    return Network(encoder, []), encoder.weight


def test_the_running_average_is_what_is_kept() -> None:
    network, parameter = _network(0.0)
    method, expected = RunningAverage(0.9), 0.0
    method.before_training(network)
    for step in range(1, 40):
        with torch.no_grad():
            parameter.fill_(float(step))
        method.after_step()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    method.after_training()
    assert parameter.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 0.1), (1.0, 0.7), (0.5, 0.4)])
def test_the_ends_of_the_interpolation_are_the_old_and_the_new_weights(share: float, expected: float) -> None:
    network, parameter = _network(0.1)
    method = Interpolation(share)
    method.before_training(network)
    with torch.no_grad():
        parameter.fill_(0.7)
    method.after_training()
    assert parameter.item() == pytest.approx(expected)


def test_freelb_starts_at_random_and_stays_in_its_ball() -> None:
    folder, digest = exported_tiny_encoder()
    encoder = TorchEncoder(folder, digest=digest).module
    probe = Probe(encoder)
    probe.attack(FreeLB(0.5, 4), encoder)
    lengths = torch.stack([shift.flatten(1).norm(dim=1) for shift in probe.shifts])
    assert lengths.shape == (4, 2)
    assert (lengths > 0).all()
    assert (lengths <= 0.5 * probe.unit * 1.001).all()
    gains = [(shift * probe.direction).sum().item() for shift in probe.shifts]
    assert gains == sorted(gains)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LogitMatching(0.1),
        lambda: Contrastive(0.2),
        lambda: Mixup(0.4),
        lambda: RunningAverage(0.9),
        lambda: Interpolation(0.5),
        lambda: FreeLB(0.5),
    ],
)
def test_every_method_trains_and_the_same_seed_gives_the_same_weights(make: Callable[[], Method]) -> None:
    plain, first, second = train_tiny([]), train_tiny([make()]), train_tiny([make()])
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], plain[name]) for name in first)

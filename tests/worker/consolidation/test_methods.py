"""The methods a consolidation is made of, each against what defines it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pawl.classifier.calibration import softmax
from pawl.classifier.encoders.torch_backend import TorchEncoder
from pawl.domain.errors import EncoderRejected
from tests.tiny_encoder import exported_tiny_encoder
from worker.consolidation.data.batches import Example, Target, collate
from worker.consolidation.ridge_evaluation import fit, fit_best, leave_one_out, losses
from worker.consolidation.training.methods.adversarial import Adversary, Attack, word_embeddings
from worker.consolidation.training.methods.augmentation import drop_tokens
from worker.consolidation.training.methods.averaging import RunningAverage, best_share, copies, interpolate
from worker.consolidation.training.methods.lora import Adapters
from worker.consolidation.training.methods.regularisers import AnchoredPenalty, fisher_information
from worker.consolidation.training.schedule import Evaluation
from worker.model.hyperparameters import DEFAULT, FEWEST

_TOKENS = torch.tensor([[2, 30, 31, 32, 3], [2, 40, 41, 3, 0]])
_MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def _encoder() -> TorchEncoder:
    folder, digest = exported_tiny_encoder()
    return TorchEncoder(folder, digest=digest)


def test_l2_sp_pulls_towards_the_start_in_proportion_to_the_distance() -> None:
    parameter = nn.Parameter(torch.tensor([1.0, 2.0, 3.0]))
    penalty = AnchoredPenalty([parameter], 0.5)
    with torch.no_grad():
        parameter.add_(torch.tensor([0.0, 4.0, -2.0]))
    parameter.grad = torch.tensor([10.0, 10.0, 10.0])
    penalty.add_gradients()
    assert parameter.grad.tolist() == [10.0, 12.0, 9.0]


def test_ewc_pulls_by_importance() -> None:
    parameter = nn.Parameter(torch.tensor([0.0, 0.0]))
    penalty = AnchoredPenalty([parameter], 2.0, [torch.tensor([0.25, 3.0])])
    with torch.no_grad():
        parameter.add_(1.0)
    penalty.add_gradients()
    assert parameter.grad is not None
    assert parameter.grad.tolist() == [0.5, 6.0]


def test_the_fisher_information_of_a_logistic_regression_is_that_of_its_formula() -> None:
    """One text at a time, z given: F of the bias of class k is q_k (1 - q_k), here the same for both of two classes."""
    head = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.0]]))
    shift = nn.Parameter(torch.zeros(2))
    z = torch.tensor([[1.0, 5.0]])
    batches = (collate([Example((1,), (Target(0, 0),))], 0) for _ in range(400))
    # logits = W (z + shift): d log q(y) / d shift_0 = (y == 0) - q_0, and nothing depends on shift_1
    (found,) = fisher_information([shift], nn.ModuleList([head]), batches, lambda _: z + shift, seed=0)
    assert found.tolist() == pytest.approx([2.0, 0.0])  # scaled to mean 1


def test_a_running_average_is_applied_and_taken_back() -> None:
    parameter = nn.Parameter(torch.zeros(1))
    average = RunningAverage([parameter], 0.9)
    expected = 0.0
    for step in range(1, 40):
        with torch.no_grad():
            parameter.fill_(float(step))
        average.update()
        decay = min(0.9, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    with average.applied():
        assert parameter.item() == pytest.approx(expected, rel=1e-5)
    assert parameter.item() == 39.0


def test_the_ends_of_the_interpolation_are_the_old_and_the_new_weights_to_the_bit() -> None:
    torch.manual_seed(0)
    parameter = nn.Parameter(torch.randn(1000))
    old, new = [torch.randn(1000)], copies([parameter])
    interpolate([parameter], old, new, 0.0)
    assert torch.equal(parameter, old[0])
    interpolate([parameter], old, new, 1.0)
    assert torch.equal(parameter, new[0])
    interpolate([parameter], old, new, 0.5)
    torch.testing.assert_close(parameter.detach(), (old[0] + new[0]) / 2)


def test_the_share_with_the_best_evaluation_is_kept_and_the_newest_of_equal_ones() -> None:
    parameter = nn.Parameter(torch.ones(1))

    def evaluate() -> Evaluation:
        return Evaluation(1, 1.0 - abs(parameter.item() - 0.6), 0.0)

    share, evaluation = best_share([parameter], [torch.zeros(1)], evaluate)
    assert share == 0.6
    assert evaluation.accuracy == pytest.approx(1.0)
    assert parameter.item() == pytest.approx(0.6)
    with torch.no_grad():
        parameter.fill_(1.0)
    assert best_share([parameter], [torch.zeros(1)], lambda: Evaluation(1, 0.5, 0.1))[0] == 1.0


def test_adapters_start_as_nothing_and_merge_into_what_they_computed() -> None:
    encoder = _encoder()
    names = [name for name, _ in encoder.module.named_parameters()]
    before = encoder.module(_TOKENS, _MASK)
    adapters = Adapters(encoder.module, rank=4)
    trained = {name for name, p in encoder.module.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert torch.equal(encoder.module(_TOKENS, _MASK), before)
    torch.manual_seed(0)
    for name, p in encoder.module.named_parameters():
        if name in trained:
            nn.init.normal_(p, std=0.1)
    moved = encoder.module(_TOKENS, _MASK)
    assert (moved - before).abs().max().item() > 0.01
    adapters.merge()
    assert [name for name, _ in encoder.module.named_parameters()] == names
    torch.testing.assert_close(encoder.module(_TOKENS, _MASK), moved, rtol=1e-4, atol=1e-5)


def test_hidden_tokens_count_for_nothing_and_the_first_one_stays() -> None:
    torch.manual_seed(0)
    mask = drop_tokens(torch.ones(200, 10, dtype=torch.int64), 0.3)
    assert mask[:, 0].all()
    assert mask[:, 1:].float().mean().item() == pytest.approx(0.7, abs=0.05)
    assert not drop_tokens(torch.zeros(5, 4, dtype=torch.int64), 0.0).any()
    encoder, changed = _encoder().module.eval(), _TOKENS.clone()
    hidden = _MASK.clone()
    hidden[0, 2], changed[0, 2] = 0, 77
    torch.testing.assert_close(encoder(_TOKENS, hidden), encoder(changed, hidden))


class _Probe:
    """A loss that is linear in the word vectors' sum; notes the shift of each pass."""

    def __init__(self, encoder: nn.Module, direction: Tensor) -> None:
        self.embeddings = word_embeddings(encoder)
        self.direction = direction
        self.plain = self.embeddings(_TOKENS).detach()
        self.shifts: list[Tensor] = []

    def __call__(self, share: float) -> Tensor:
        vectors = self.embeddings(_TOKENS)
        self.shifts.append((vectors - self.plain).detach())
        loss: Tensor = torch.sum(vectors * self.direction)
        torch.autograd.backward(loss * share)
        return loss.detach()


def _attacked(attack: Attack) -> tuple[_Probe, nn.Module, float]:
    encoder = _encoder().module
    torch.manual_seed(0)
    probe = _Probe(encoder, torch.randn(2, 5, 32))
    unit = float(word_embeddings(encoder).weight.detach().norm(dim=1).mean())
    Adversary(encoder, attack).accumulate(_MASK, probe)
    return probe, encoder, unit


def test_fgm_takes_the_second_gradient_at_the_steepest_shift_and_restores_the_weights() -> None:
    before = _encoder().module.state_dict()
    attack = Attack.of("fgm", 0.5, 3)
    assert attack is not None
    probe, encoder, unit = _attacked(attack)
    clean, shifted = probe.shifts
    assert not clean.any()
    uphill = probe.direction * _MASK[..., None]  # nothing at the padding
    lengths = uphill.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(shifted, 0.5 * unit * uphill / lengths, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(probe.embeddings(_TOKENS), probe.plain), "the hook must be gone"
    gradient = probe.embeddings.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient[30], probe.direction[0, 1])  # two passes of half the loss each


def test_freelb_starts_at_random_and_stays_in_its_ball() -> None:
    attack = Attack.of("freelb", 0.5, 4)
    assert attack is not None
    probe, _, unit = _attacked(attack)
    lengths = torch.stack([shift.flatten(1).norm(dim=1) for shift in probe.shifts])
    assert lengths.shape == (4, 2)
    assert (lengths > 0).all()
    assert (lengths <= 0.5 * unit * 1.001).all()
    gains = [(shift * probe.direction).sum().item() for shift in probe.shifts]
    assert gains == sorted(gains)


def test_without_an_attack_there_is_none_and_without_word_embeddings_an_error() -> None:
    assert Attack.of("off", 0.5, 3) is None
    with pytest.raises(EncoderRejected, match="no word embeddings"):
        word_embeddings(nn.Linear(2, 2))


def test_leave_one_out_equals_fitting_without_the_row() -> None:
    rng = np.random.default_rng(0)
    phi = rng.standard_normal((30, 6)).astype(np.float32)
    labels = rng.integers(0, 3, 30).tolist()
    scores = leave_one_out(fit(phi, labels, 3, 0.7), phi, labels)
    for row in (0, 13, 29):
        rest = [k for k in range(30) if k != row]
        other = fit(phi[rest], [labels[k] for k in rest], 3, 0.7)
        torch.testing.assert_close(scores[row], torch.from_numpy(phi[row]).double() @ other.weights)
    expected = -np.log(softmax(scores.numpy() / 0.2)[np.arange(30), labels])
    np.testing.assert_allclose(losses(scores, labels, 0.2), expected, rtol=1e-5)


def test_the_best_lambda_is_larger_where_there_is_more_noise() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    clean = rng.standard_normal((200, 20)).astype(np.float32) * 0.3
    clean[:, 0] = 2.0 * labels - 1.0
    clean[:, 1] = 1.0
    clean *= 0.02  # so that lambda decides
    noisy = clean + 0.02 * rng.standard_normal((200, 20)).astype(np.float32)
    chosen = [fit_best(phi, labels.tolist(), 2)[0].regularisation for phi in (clean, noisy)]
    assert chosen[0] < chosen[1]


def test_lambda_is_chosen_on_the_rows_that_judge() -> None:
    """Rows an encoder was trained on are clean; those to come are not, and only what is like them may decide."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    phi = np.concatenate([2.0 * labels[:, None] - 1.0, rng.standard_normal((200, 19)) * 0.3], axis=1)
    phi[100:] += rng.standard_normal((100, 20))
    phi = (0.02 * phi).astype(np.float32)
    clean, noisy = (fit_best(phi, labels.tolist(), 2, rows)[0].regularisation for rows in (range(100), range(100, 200)))
    assert clean < noisy
    assert fit_best(phi, labels.tolist(), 2, range(FEWEST - 1))[0].regularisation == DEFAULT

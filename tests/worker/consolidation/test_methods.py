"""The methods a consolidation is made of, each against what defines it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.domain.errors import EncoderRejected
from pawl.settings import Settings
from tests.tiny_encoder import exported_tiny_encoder
from worker.consolidation.data.batches import TrainingBatch
from worker.consolidation.training.freezing import freeze
from worker.consolidation.training.methods.adversarial import FastGradient, word_embeddings
from worker.consolidation.training.methods.distillation import Distillation
from worker.consolidation.training.methods.l2_sp import L2SP
from worker.consolidation.training.methods.lora import LowRankAdapters
from worker.consolidation.training.methods.registry import METHODS, methods_of
from worker.consolidation.training.methods.token_dropout import drop_tokens
from worker.consolidation.training.network import Network, layers_of

_TOKENS = torch.tensor([[2, 30, 31, 32, 3], [2, 40, 41, 3, 0]])
_MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 1, 0]])


def _encoder() -> TorchEncoder:
    folder, digest = exported_tiny_encoder()
    return TorchEncoder(folder, digest=digest)


class _Parameter(nn.Module):
    def __init__(self, value: list[float]) -> None:
        super().__init__()
        self.value = nn.Parameter(torch.tensor(value))


def test_l2_sp_pulls_the_encoder_towards_the_start_in_proportion_to_the_distance() -> None:
    encoder = _Parameter([1.0, 2.0, 3.0])
    method = L2SP(0.5)
    method.before_training(Network(encoder, [nn.Linear(1, 1)]))
    with torch.no_grad():
        encoder.value.add_(torch.tensor([0.0, 4.0, -2.0]))
    encoder.value.grad = torch.tensor([10.0, 10.0, 10.0])
    method.after_backward()
    assert encoder.value.grad.tolist() == [10.0, 12.0, 9.0]


def test_adapters_start_as_nothing_and_merge_into_what_they_computed() -> None:
    encoder = _encoder()
    names = [name for name, _ in encoder.module.named_parameters()]
    before = encoder.module(_TOKENS, _MASK)
    adapters = LowRankAdapters(rank=4)
    adapters.before_training(Network(encoder.module, []))
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
    adapters.after_training()
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


class Probe:
    """A loss that is linear in the word vectors' sum; notes the shift of each pass."""

    def __init__(self, encoder: nn.Module) -> None:
        torch.manual_seed(0)
        self.embeddings = word_embeddings(encoder)
        self.unit = float(self.embeddings.weight.detach().norm(dim=1).mean())
        self.direction = torch.randn(2, 5, 32)
        self.plain = self.embeddings(_TOKENS).detach()
        self.shifts: list[Tensor] = []

    def attack(self, method: FastGradient, encoder: nn.Module) -> None:
        """One step with the method."""
        method.before_training(Network(encoder, []))
        method.on_batch(TrainingBatch(_TOKENS, _MASK, None, {}))
        method.on_backward(self)(1.0)

    def __call__(self, share: float) -> Tensor:
        vectors = self.embeddings(_TOKENS)
        self.shifts.append((vectors - self.plain).detach())
        loss: Tensor = torch.sum(vectors * self.direction)
        torch.autograd.backward(loss * share)
        return loss.detach()


def test_fgm_takes_the_second_gradient_at_the_steepest_shift_and_restores_the_weights() -> None:
    before, encoder = _encoder().module.state_dict(), _encoder().module
    probe = Probe(encoder)
    probe.attack(FastGradient(0.5), encoder)
    clean, shifted = probe.shifts
    assert not clean.any()
    uphill = probe.direction * _MASK[..., None]  # nothing at the padding
    lengths = uphill.flatten(1).norm(dim=1)[:, None, None]
    torch.testing.assert_close(shifted, 0.5 * probe.unit * uphill / lengths, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert torch.equal(probe.embeddings(_TOKENS), probe.plain), "the hook must be gone"
    gradient = probe.embeddings.weight.grad
    assert gradient is not None
    torch.testing.assert_close(gradient[30], probe.direction[0, 1])  # two passes of half the loss each


def test_fgm_above_frozen_layers_shifts_the_states_that_enter_the_lowest_trained_one() -> None:
    encoder = _encoder().module.eval()
    freeze(encoder, "top-1")
    method, layer = FastGradient(0.5), layers_of(encoder)[1]
    network = Network(encoder, [nn.Linear(32, 2)])
    method.before_training(network)
    batch = TrainingBatch(_TOKENS, _MASK, None, {})
    method.on_batch(batch)
    entered: list[Tensor] = []
    torch.manual_seed(0)
    direction = torch.randn(2, 5, 32)

    def backward(share: float) -> Tensor:
        handle = layer.register_forward_pre_hook(lambda _, inputs: entered.append(inputs[0]))
        loss: Tensor = (network.embed(batch) * direction[:, 0]).sum()
        handle.remove()
        torch.autograd.backward(loss * share)
        return loss.detach()

    method.on_backward(backward)(1.0)
    plain, shifted = (states.detach() for states in entered)
    moved = (shifted - plain).flatten(1).norm(dim=1)
    unit = plain[_MASK.bool()].norm(dim=1).mean()
    torch.testing.assert_close(moved, 0.5 * unit * torch.ones(2), rtol=1e-4, atol=1e-5)
    assert not (shifted - plain)[1, 4].any(), "nothing at the padding"
    assert entered[0].grad_fn is not None, "the shift alone: nothing below is asked for a gradient"
    assert all(p.grad is None for p in layers_of(encoder)[0].parameters())


def test_without_word_embeddings_there_is_no_attack() -> None:
    with pytest.raises(EncoderRejected, match="no word embeddings"):
        word_embeddings(nn.Linear(2, 2))


def test_the_settings_turn_methods_on() -> None:
    on = {"lora_rank": 4, "l2_sp": 0.1, "token_dropout": 0.1}
    assert [type(method) for method in methods_of(Settings())] == [FastGradient, Distillation]
    assert [type(method) for method in methods_of(Settings().model_copy(update=on))] == list(METHODS)
    assert methods_of(Settings().model_copy(update={"distillation": 0.0, "adversarial": "off"})) == []

"""The fine-tuning loop, on the tiny encoder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.domain.errors import EncoderRejected, TrainingFailed
from tests.tiny_encoder import WORDS, exported_tiny_encoder
from worker.consolidation.data.batches import Example, Target
from worker.consolidation.training.activations import tokens_at_once
from worker.consolidation.training.freezing import freeze
from worker.consolidation.training.linear_probe import probe
from worker.consolidation.training.methods.adversarial import FastGradient
from worker.consolidation.training.methods.distillation import Distillation
from worker.consolidation.training.methods.l2_sp import L2SP
from worker.consolidation.training.methods.lora import LowRankAdapters
from worker.consolidation.training.methods.method import Method
from worker.consolidation.training.methods.token_dropout import TokenDropout
from worker.consolidation.training.network import Network, layers_of
from worker.consolidation.training.recipe import Recipe
from worker.consolidation.training.trainer import Trainer, TrainingOutcome

RECIPE = Recipe(
    freeze="all",
    epochs=3,
    learning_rate=1e-3,
    warmup=0.1,
    weight_decay=0.01,
    batch_size=16,
    patience=100,
    max_grad_norm=1.0,
    bf16=False,
    padding=0,
    seed=0,
)
DISTILLED = (Distillation(0.5, 2.0),)
CPU = torch.device("cpu")


def _texts(count: int, seed: int = 0) -> tuple[list[str], list[int]]:
    """Texts whose class is that of one of their words, among words that tell nothing."""
    rng = np.random.default_rng(seed)
    telling, filler = WORDS[:20], WORDS[20:]
    texts, labels = [], []
    for _ in range(count):
        label = int(rng.integers(0, 2))
        words = [str(rng.choice(telling[label::2])), *rng.choice(filler, int(rng.integers(1, 8))).tolist()]
        rng.shuffle(words)
        texts.append(" ".join(words))
        labels.append(label)
    return texts, labels


def _examples(encoder: TorchEncoder, count: int, seed: int = 0) -> list[Example]:
    texts, labels = _texts(count, seed)
    teacher = np.array([0.5, 0.5], np.float32)
    tokens = encoder.tokenizer.tokenize(texts)
    return [
        Example(tuple(t), (Target(0, label, 1.0 + k % 3, teacher if k % 4 == 0 else None),))
        for k, (t, label) in enumerate(zip(tokens, labels, strict=True))
    ]


def _encoder(dropout: float | None = None) -> TorchEncoder:
    folder, digest = exported_tiny_encoder()
    encoder = TorchEncoder(folder, digest=digest)
    for module in encoder.module.modules():
        if dropout is not None and isinstance(module, nn.Dropout):
            module.p = dropout
    if dropout is not None:
        for layer in layers_of(encoder.module):
            _set_attention_dropout(layer, dropout)
    return encoder


def _set_attention_dropout(layer: nn.Module, dropout: float) -> None:
    for module in layer.modules():
        if isinstance(getattr(module, "attention_dropout", None), float):
            module.attention_dropout = dropout  # type: ignore[assignment]  # a float that nn.Module does not declare


def _trainer(encoder: TorchEncoder, recipe: Recipe = RECIPE, methods: Sequence[Method] = DISTILLED) -> Trainer:
    torch.manual_seed(7)
    network = Network(encoder.module, [nn.Linear(encoder.dimension, 2)])
    return Trainer(network, recipe, CPU, methods)


def _train(recipe: Recipe, methods: Sequence[Method] = DISTILLED) -> tuple[TorchEncoder, TrainingOutcome]:
    encoder = _encoder()
    return encoder, _trainer(encoder, recipe, methods).run(_examples(encoder, 200), _examples(encoder, 60, seed=1))


def _state(encoder: TorchEncoder) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in encoder.module.state_dict().items()}


def test_training_learns_what_the_frozen_encoder_cannot() -> None:
    _, outcome = _train(replace(RECIPE, epochs=5), [])
    assert outcome.changed
    assert outcome.before is not None
    assert outcome.best is not None
    assert outcome.before.accuracy < 0.65
    assert outcome.best.accuracy > 0.8


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, second, other = (_state(_train(replace(RECIPE, epochs=1, seed=seed))[0]) for seed in (1, 1, 2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


@pytest.mark.parametrize(("policy", "frozen_layers"), [("all", 0), ("top-1", 1), ("top-2", 0), ("top-9", 0)])
def test_frozen_weights_stay_bit_identical(policy: str, frozen_layers: int) -> None:
    before = _state(_encoder())
    encoder, outcome = _train(replace(RECIPE, freeze=policy, epochs=2))
    after = _state(encoder)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    embeddings = {name for name in before if ".embeddings." in name}
    below = {name for name in before if any(f".layer.{k}." in name for k in range(frozen_layers))}
    above = {name for name in before if ".layer." in name} - below
    assert not changed & below
    assert above <= changed
    assert bool(changed & embeddings) == (policy == "all")
    assert outcome.cached_states == (frozen_layers > 0)
    assert len(layers_of(encoder.module)) == 2, "the layers must be back in place for the export"


@pytest.mark.parametrize("methods", [DISTILLED, (FastGradient(0.15),)], ids=["distilled", "fgm"])
def test_cached_states_give_the_gradients_of_the_whole_encoder(methods: Sequence[Method]) -> None:
    """Caching is off when there is one epoch only, so the same step can be taken both ways."""
    encoder = _encoder(dropout=0.0)
    recipe = replace(RECIPE, freeze="top-1")
    cached = _trainer(encoder, recipe, methods)
    examples = _examples(encoder, 16)
    stored, _ = cached._cache_frozen(examples, [])
    assert all(example.states is not None for example in stored)
    with cached._encoder.resumed():
        with_cache = _gradients(cached, stored)
    whole = _gradients(_trainer(encoder, recipe, methods), examples)
    torch.testing.assert_close(with_cache, whole, rtol=1e-2, atol=1e-4)  # states are kept in half precision


def _gradients(trainer: Trainer, examples: Sequence[Example]) -> list[Tensor]:
    trainer.network.zero_grad()
    trainer._train_mode()
    trainer.accumulate(examples)
    return [p.grad.clone() for p in trainer._trained if p.grad is not None]


@pytest.mark.parametrize("parts", [2, 3, 16])
def test_accumulated_gradients_equal_those_of_the_whole_batch(parts: int) -> None:
    encoder = _encoder(dropout=0.0)
    trainer, examples = _trainer(encoder), _examples(encoder, 16)
    whole = _gradients(trainer, examples)
    trainer.parts = parts
    torch.testing.assert_close(_gradients(trainer, examples), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("methods", [(), (FastGradient(0.15),)], ids=["plain", "fgm"])
def test_a_training_on_the_cpu_takes_no_more_tokens_at_once_than_there_is_room_for(methods: Sequence[Method]) -> None:
    encoder = _encoder(dropout=0.0)
    trainer, examples = _trainer(encoder, methods=methods), _examples(encoder, 16)
    assert trainer._at_once == tokens_at_once(2, 32)
    assert trainer._at_once > 256 * 32, "so small an encoder has room for any batch"
    whole = _gradients(trainer, examples)
    taken: list[int] = []
    trainer.network.encoder.register_forward_pre_hook(lambda _, inputs: taken.append(inputs[0].numel()))
    trainer._at_once = 3 * max(len(example.tokens) for example in examples)
    torch.testing.assert_close(_gradients(trainer, examples), whole, rtol=1e-4, atol=1e-6)
    assert max(taken) <= trainer._at_once
    assert trainer._most == 6


class _SmallMemory(nn.Module):
    """An encoder on a device whose memory holds so many texts at a time."""

    def __init__(self, encoder: nn.Module, room: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.room = room

    def forward(self, tokens: Tensor, mask: Tensor) -> Any:
        if len(tokens) > self.room:
            raise torch.OutOfMemoryError("out of memory")
        return self.encoder(tokens, mask)


def test_out_of_memory_halves_the_batch_and_goes_on() -> None:
    encoder = _encoder(dropout=0.0)
    examples = _examples(encoder, 64)
    network = Network(_SmallMemory(encoder.module, room=5), [nn.Linear(encoder.dimension, 2)])
    trainer = Trainer(network, replace(RECIPE, epochs=1), CPU)
    outcome = trainer.run(examples, [])
    assert outcome.accumulated == 4
    assert outcome.samples == 64
    assert outcome.steps == outcome.planned_steps == 4


def test_a_text_that_alone_is_too_large_ends_the_training() -> None:
    encoder = _encoder()
    network = Network(_SmallMemory(encoder.module, room=0), [nn.Linear(encoder.dimension, 2)])
    trainer = Trainer(network, RECIPE, CPU)
    with pytest.raises(torch.OutOfMemoryError):
        trainer.run(_examples(encoder, 8), [])


def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    encoder = _encoder()
    trainer = _trainer(encoder)
    with torch.no_grad():
        trainer.network.heads[0].weight.fill_(float("nan"))  # type: ignore[operator]  # nn.Module declares no weight
    with pytest.raises(TrainingFailed, match="the loss is nan"):
        trainer.run(_examples(encoder, 32), [])


def test_training_that_never_improves_gives_the_old_weights_back() -> None:
    encoder = _encoder()
    before = _state(encoder)
    trainer = _trainer(encoder, replace(RECIPE, learning_rate=1e-12, head_rate=0.0, weight_decay=0.0, patience=2))
    wrong = [replace(e, targets=(replace(e.targets[0], label=0),)) for e in _examples(encoder, 30, seed=1)]
    with torch.no_grad():  # already right on all of the validation samples, and training data say the opposite
        trainer.network.heads[0].weight.zero_()  # type: ignore[operator]  # nn.Module declares no weight
        trainer.network.heads[0].bias.copy_(torch.tensor([90.0, -90.0]))  # type: ignore[operator]  # the same
    outcome = trainer.run(_examples(encoder, 200), wrong)
    assert not outcome.changed
    assert outcome.steps < outcome.planned_steps
    after = _state(encoder)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_bfloat16_trains_float32_weights() -> None:
    encoder, outcome = _train(replace(RECIPE, bf16=True, epochs=1))
    assert all(value.dtype == torch.float32 for value in _state(encoder).values() if value.is_floating_point())
    assert outcome.steps == 13


def test_a_probe_separates_what_the_embedding_separates() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 300)
    z = rng.standard_normal((300, 8)).astype(np.float32)
    z[np.arange(300), labels] += 4
    z /= np.linalg.norm(z, axis=1, keepdims=True)
    head = probe(z, labels.tolist(), [1.0] * 300, classes=4)
    right = (head(torch.from_numpy(z)).argmax(dim=1).numpy() == labels).mean()
    assert right > 0.9
    assert head.weight[3].abs().max().item() < head.weight[:3].abs().max().item()


def test_an_encoder_without_layers_cannot_be_frozen_in_part() -> None:
    with pytest.raises(EncoderRejected, match="no list of layers"):
        freeze(nn.Linear(3, 3), "top-1")


_VARIANTS: dict[str, tuple[dict[str, Any], list[Callable[[], Method]]]] = {
    "distillation": ({}, [lambda: Distillation(0.5, 2.0)]),
    "hidden tokens": ({}, [lambda: TokenDropout(0.1)]),
    "l2-sp": ({}, [lambda: L2SP(0.01)]),
    "fgm": ({}, [lambda: FastGradient(0.5)]),
    "adapters": ({}, [lambda: LowRankAdapters(4)]),
    "adapters in the upper layer": ({"freeze": "top-1"}, [lambda: LowRankAdapters(4), lambda: L2SP(0.1)]),
    "fgm through frozen layers": ({"freeze": "top-1"}, [lambda: FastGradient(0.5)]),
    "a budget of tokens": ({"token_budget": 64}, []),
}


def train_tiny(methods: Sequence[Method], **changes: Any) -> dict[str, Tensor]:
    """The tiny encoder's weights after two epochs on a hundred texts."""
    encoder = _encoder()
    _trainer(encoder, replace(RECIPE, epochs=2, **changes), methods).run(_examples(encoder, 100), [])
    return _state(encoder)


@pytest.mark.parametrize("variant", _VARIANTS)
def test_every_method_trains_and_the_same_seed_gives_the_same_weights(variant: str) -> None:
    changes, makers = _VARIANTS[variant]
    before, plain = _state(_encoder()), train_tiny([])
    first, second = (train_tiny([make() for make in makers], **changes) for _ in range(2))
    assert first.keys() == before.keys(), "the export knows these names"
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not all(torch.equal(first[name], before[name]) for name in first)
    assert not all(torch.equal(first[name], plain[name]) for name in first)


def test_the_penalty_keeps_the_weights_nearer_to_where_they_started() -> None:
    before = _state(_encoder())

    def distance(methods: Sequence[Method]) -> float:
        after = _state(_train(replace(RECIPE, epochs=2), methods)[0])
        return sum(float((after[name] - before[name]).square().sum()) for name in before)

    assert distance([L2SP(10.0)]) < distance([]) / 2

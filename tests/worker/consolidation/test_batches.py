"""Batches."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from worker.consolidation.data.batches import Example, Target, bucketed, by_length, collate


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300),
    size=st.integers(1, 16),
    budget=st.integers(1, 200),
    seed=st.integers(0, 5),
)
def test_a_batch_keeps_to_its_budget_of_tokens(lengths: list[int], size: int, budget: int, seed: int) -> None:
    batches = bucketed(lengths, size, np.random.default_rng(seed), budget)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(len(batch) for batch in batches) <= size
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= budget for batch in batches)


def test_a_budget_of_tokens_makes_large_batches_of_short_texts() -> None:
    batches = bucketed([4] * 64 + [32] * 8, 1000, np.random.default_rng(0), 128)
    assert sorted(map(len, batches)) == [4, 4, 32, 32]


@given(lengths=st.lists(st.integers(1, 60), min_size=1, max_size=300), size=st.integers(1, 16), seed=st.integers(0, 5))
def test_an_epoch_has_every_example_once(lengths: list[int], size: int, seed: int) -> None:
    batches = bucketed(lengths, size, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert max(len(batch) for batch in batches) <= size
    assert batches == bucketed(lengths, size, np.random.default_rng(seed))
    assert sorted(index for batch in by_length(lengths, size) for index in batch) == list(range(len(lengths)))


def test_buckets_pad_less_than_half_of_what_random_batches_do() -> None:
    rng = np.random.default_rng(0)
    lengths = rng.integers(3, 80, 1000).tolist()

    def padding(batches: list[list[int]]) -> int:
        return sum(max(lengths[i] for i in batch) - lengths[j] for batch in batches for j in batch)

    random = rng.permutation(1000).reshape(-1, 20).tolist()
    assert padding(bucketed(lengths, 20, rng)) < padding(random) / 2


def test_collate_pads_tokens_and_gathers_the_targets_of_each_task() -> None:
    teacher = np.array([0.9, 0.1], np.float32)
    examples = [
        Example((5, 6, 7), (Target(0, 1), Target(1, 2, weight=2.0))),
        Example((8,), (Target(1, 0, teacher=teacher),), states=None),
    ]
    batch = collate(examples, padding=9)
    assert batch.tokens.tolist() == [[5, 6, 7], [8, 9, 9]]
    assert batch.mask.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch.targets[0].rows.tolist() == [0]
    assert batch.targets[1].rows.tolist() == [0, 1]
    assert batch.targets[1].labels.tolist() == [2, 0]
    assert batch.targets[1].weights.tolist() == [2.0, 1.0]
    assert batch.targets[1].taught.tolist() == [1]
    assert torch.equal(batch.targets[1].teacher, torch.from_numpy(teacher[None]))
    assert batch.targets[0].taught.tolist() == []

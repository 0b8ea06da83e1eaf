"""From tokenised texts to batches on the device: length-bucketed, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pawl.ports import Floats

_BUCKET = 64  # batches sorted by length together: long: little padding; short: an order that stays random


@dataclass(frozen=True, slots=True)
class Target:
    """One label of a text. `label` is the column of the task's head.

    `teacher`, shape (K,), holds the live model's probabilities for the first K columns; None: no distillation.
    """

    task: int
    label: int
    weight: float = 1.0
    teacher: Floats | None = None


@dataclass(frozen=True, slots=True)
class Example:
    """A tokenised text with its labels, one in each task that has one: tasks share the forward pass.

    `states`, shape (tokens, d), is the cached output of the frozen layers, where there is one.
    """

    tokens: tuple[int, ...]
    targets: tuple[Target, ...]
    states: Tensor | None = None


@dataclass(frozen=True, slots=True)
class TaskTargets:
    """The targets of one task in a batch.

    `rows` (n,) index the batch; `labels` and `weights` are (n,). `taught` (m,) are the positions in `rows` that have a
    teacher, and `teacher`, shape (m, K), is what it says.
    """

    rows: Tensor
    labels: Tensor
    weights: Tensor
    taught: Tensor
    teacher: Tensor


@dataclass(frozen=True, slots=True)
class TrainingBatch:
    """`tokens` and `mask` are (B, T); `states` is (B, T, d) or None; `targets` has one entry for each task present."""

    tokens: Tensor
    mask: Tensor
    states: Tensor | None
    targets: dict[int, TaskTargets]

    def to(self, device: torch.device) -> TrainingBatch:
        """The batch on the device; on CUDA from pinned memory and without waiting for the copy."""
        # Only a copy out of pinned memory can go on beside the computation.
        pin = device.type == "cuda"

        def move(tensor: Tensor) -> Tensor:
            return (tensor.pin_memory() if pin else tensor).to(device, non_blocking=pin)

        targets = {
            task: TaskTargets(move(t.rows), move(t.labels), move(t.weights), move(t.taught), move(t.teacher))
            for task, t in self.targets.items()
        }
        states = None if self.states is None else move(self.states)
        return TrainingBatch(move(self.tokens), move(self.mask), states, targets)


def bucketed(
    lengths: Sequence[int], batch_size: int, rng: np.random.Generator, token_budget: int = 0
) -> list[list[int]]:
    """One epoch of batches of indices: shuffled, sorted by length within buckets, and the batches shuffled again.

    A batch has at most `batch_size` texts and, where there is a budget, at most `token_budget` tokens with padding
    (but always one text).
    """
    order = rng.permutation(len(lengths))
    size = batch_size * _BUCKET
    batches: list[list[int]] = []
    for start in range(0, len(order), size):
        # The sort is stable: texts of equal length stay in the shuffled order.
        bucket = sorted(order[start : start + size].tolist(), key=lambda index: lengths[index])
        batches.extend(_cut(bucket, lengths, batch_size, token_budget))
    # Shuffled again, else each bucket would be trained from its shortest texts to its longest.
    return [batches[k] for k in rng.permutation(len(batches))]


def _cut(ascending: Sequence[int], lengths: Sequence[int], batch_size: int, token_budget: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for index in ascending:
        over = token_budget and (len(batch) + 1) * lengths[index] > token_budget  # it is the longest so far
        if batch and (len(batch) == batch_size or over):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def by_length(lengths: Sequence[int], batch_size: int) -> list[list[int]]:
    """All indices in batches of similar length, longest first, so that memory runs out in the first batch if ever."""
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return [order[k : k + batch_size] for k in range(0, len(order), batch_size)]


def collate(examples: Sequence[Example], padding: int) -> TrainingBatch:
    """Pads examples to the longest of them. `padding` is the id of the padding token."""
    longest = max(len(example.tokens) for example in examples)
    tokens = np.full((len(examples), longest), padding, dtype=np.int64)
    mask = np.zeros((len(examples), longest), dtype=np.int64)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = example.tokens
        mask[row, : len(example.tokens)] = 1
    return TrainingBatch(torch.from_numpy(tokens), torch.from_numpy(mask), _pad_states(examples), _targets(examples))


def _pad_states(examples: Sequence[Example]) -> Tensor | None:
    states = [example.states for example in examples if example.states is not None]
    return torch.nn.utils.rnn.pad_sequence(states, batch_first=True) if states else None


def _targets(examples: Sequence[Example]) -> dict[int, TaskTargets]:
    by_task: dict[int, list[tuple[int, Target]]] = {}
    for row, example in enumerate(examples):
        for target in example.targets:
            by_task.setdefault(target.task, []).append((row, target))
    result: dict[int, TaskTargets] = {}
    for task, pairs in by_task.items():
        taught = [(k, target.teacher) for k, (_, target) in enumerate(pairs) if target.teacher is not None]
        result[task] = TaskTargets(
            rows=torch.tensor([row for row, _ in pairs]),
            labels=torch.tensor([target.label for _, target in pairs]),
            weights=torch.tensor([target.weight for _, target in pairs], dtype=torch.float32),
            taught=torch.tensor([k for k, _ in taught], dtype=torch.int64),
            teacher=torch.from_numpy(np.stack([p for _, p in taught])) if taught else torch.zeros(0, 0),
        )
    return result

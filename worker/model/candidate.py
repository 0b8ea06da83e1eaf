"""What is proposed to a task's head, and what the gate gets to see of it. Values only."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from pawl.classifier.novelty import Novelty
from worker.model.evaluation_set import EvaluationItem

Tensor = torch.Tensor
NEVER = -1e4
"""Offset of a label without samples: it is never answered."""


@dataclass(frozen=True, slots=True)
class Example:
    """A sample with its features (p,) and what the panel needs to know. `eligible`: no encoder was trained on it."""

    sample_id: str
    label: str
    weight: float
    features: Tensor
    order: str
    heldout: bool = False
    golden: bool = False
    pinned: bool = False
    eligible: bool = True


@dataclass(frozen=True, slots=True)
class Change:
    """What enters and what leaves. `members` are the learned samples of each label in `TaskModel.stirred`.

    `corrections` are the ids of those of `adds` that may be emphasised.
    """

    adds: Sequence[Example] = ()
    removes: Sequence[Example] = ()
    members: Mapping[str, Sequence[Example]] = field(default_factory=dict)
    corrections: frozenset[str] = frozenset()

    def emphasised(self, factors: Mapping[str, float]) -> Change:
        """With these multiples, by sample id, of the weights of what enters."""
        return replace(self, adds=[replace(e, weight=e.weight * factors.get(e.sample_id, 1.0)) for e in self.adds])


@dataclass(frozen=True, slots=True)
class Judged:
    """What the gate sees of a task. Scores are corrected for class priors; leave-one-out on the panel.

    items (m), targets (m,), live and candidate (m, C); for what is new: new_targets (k,), new_live and
    new_candidate (k, C). Columns the live head does not have hold `NEVER`. `fresh` are the columns of labels that the
    candidate can answer and the live head cannot. `present` (m, C) is for a part of a batch, whose live head is the
    one from before the batch: the head that the part is built on.
    """

    labels: tuple[str, ...]
    items: Sequence[EvaluationItem]
    targets: Tensor
    live: Tensor
    candidate: Tensor
    new_targets: Tensor
    new_live: Tensor
    new_candidate: Tensor
    fresh: tuple[int, ...] = ()
    present: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A proposed head; `emphasis` by sample id, for those that have one.

    Exactly one of `commit` and `discard` must be called, before the next proposal; `novelty`, which is told how many
    of the first numbers of z it may look at, before that.
    """

    labels: tuple[str, ...]
    weights: Tensor
    offsets: Tensor
    samples: int
    regularisation: float
    judged: Judged
    novelty: Callable[[int], Novelty]
    commit: Callable[[], None]
    discard: Callable[[], None]
    emphasis: Mapping[str, float] = field(default_factory=dict)


def without_live(judged: Judged, first: Judged) -> Judged:
    """A judgement with nothing to compare with: every label of the live side is `NEVER`. `first` saw the arrivals."""
    return replace(
        judged,
        live=torch.full_like(judged.candidate, NEVER),
        new_targets=first.new_targets,
        new_live=torch.full_like(first.new_candidate, NEVER),
        new_candidate=first.new_candidate,
    )


def panel_items(examples: Sequence[Example], index: Mapping[str, int]) -> list[EvaluationItem]:
    """What of these sits on the panel; `index` are the columns of the labels."""
    return [
        EvaluationItem(e.sample_id, index[e.label], e.weight, e.order, e.heldout, e.golden, e.pinned) for e in examples
    ]

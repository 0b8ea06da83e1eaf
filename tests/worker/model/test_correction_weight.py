"""A correction is the answer to its own text on the version that learned it, exactly and within its limit."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.examples import difference, direct_weights, examples, learner, teach, weights_of
from worker.model.change import LabelledFeatures, ModelChange, stacked
from worker.model.correction_weight import MARGIN
from worker.model.proposal import Proposal
from worker.model.task_model import TaskModel


def _taught(limit: float = 8.0, seed: int = 0) -> tuple[TaskModel, list[LabelledFeatures]]:
    """A head of three old classes of 100 samples each."""
    task = learner(emphasis_limit=limit)
    known = [e for label in "abc" for e in examples(label, 100, seed=seed, spread=0.7)]
    return task, teach(task, known, [], bulk=True)


def _correct(task: TaskModel, example: LabelledFeatures) -> Proposal:
    return task.propose(ModelChange([example], corrections=frozenset({example.sample_id})))


def _lead(task: TaskModel, candidate: Proposal, example: LabelledFeatures) -> float:
    """By how much the example's label is ahead of the best other one under the candidate."""
    scores = candidate.stacked.scores(stacked([example], task.heads))[0]
    column = candidate.labels.index(example.label)
    own = float(scores[column])
    scores[column] = -torch.inf
    return own - float(scores.max())


@given(seed=st.integers(0, 10_000), label=st.sampled_from("bc"))
@settings(max_examples=30)
def test_the_smallest_weight_that_does_it_is_found(seed: int, label: str) -> None:
    """A text in the midst of class a is said to be of another class."""
    task, _ = _taught(limit=100.0)
    told = replace(examples("a", 1, seed=seed, spread=0.7, prefix="told")[0], label=label)
    candidate = _correct(task, told)
    emphasis = candidate.emphasis.get(told.sample_id, 1.0)
    if 1.0 < emphasis < 100.0:
        assert _lead(task, candidate, told) == pytest.approx(MARGIN, abs=1e-6)
    elif emphasis == 1.0:
        assert _lead(task, candidate, told) >= MARGIN - 1e-6


def test_without_emphasis_the_neighbours_outvote_it() -> None:
    task, _ = _taught(limit=1.0)
    told = replace(examples("a", 1, seed=5, spread=0.2, prefix="told")[0], label="b")
    assert _correct(task, told).emphasis == {}
    assert _lead(task, _correct(task, told), told) < 0


def test_it_never_passes_its_limit_and_bulk_has_none() -> None:
    task, _ = _taught(limit=2.0)
    told = replace(examples("a", 1, seed=5, spread=0.1, prefix="told")[0], label="b")
    candidate = _correct(task, told)
    assert candidate.emphasis == {told.sample_id: 2.0}
    assert task.propose(ModelChange([told])).emphasis == {}


def test_what_the_head_says_already_is_not_emphasised() -> None:
    task, _ = _taught()
    assert _correct(task, examples("a", 1, seed=5, spread=0.1, prefix="told")[0]).emphasis == {}


def test_the_weights_equal_the_direct_solve_with_it_and_it_leaves_exactly() -> None:
    task, known = _taught(limit=50.0)
    before = weights_of(task)
    told = replace(examples("a", 1, seed=5, spread=0.3, prefix="told")[0], label="b")
    candidate = _correct(task, told)
    task.apply(candidate)
    weighed = replace(told, weight=told.weight * candidate.emphasis[told.sample_id])
    assert weighed.weight > 1.0
    assert difference(weights_of(task), direct_weights(task, [*known, weighed])) <= 1e-8
    assert task.evaluation.items[-1].weight == weighed.weight
    teach(task, [], [*known, weighed], [weighed])
    assert difference(weights_of(task), before) <= 1e-8

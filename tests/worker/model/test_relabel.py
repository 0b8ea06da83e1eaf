"""Columns renamed, merged and retired: the head equals one solve over what remains, whatever came before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.examples import DIMENSION, direct_weights, examples, learner, teach
from worker.model.candidate import NEVER, Candidate, Example
from worker.model.relabel import Retirement, propose_rename, reweighted
from worker.model.ridge import RidgeHead
from worker.model.task_model import TaskModel

STEP = st.tuples(
    st.sampled_from(["add", "add", "remove", "rename", "merge", "retire"]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 40),
)


def rename(task: TaskModel, known: list[Example], old: str, new: str) -> Candidate:
    members = {label: [e for e in known if e.label == label] for label in reweighted(task, old, new)}
    return propose_rename(task, old, new, members)


def renamed(known: list[Example], old: str, new: str) -> list[Example]:
    return [replace(e, label=new) if e.label == old else e for e in known]


def retire(task: TaskModel, known: list[Example], label: str, page: int = 7) -> Candidate:
    own = [e for e in known if e.label == label]
    retirement = Retirement(task, label)
    for start in range(0, len(own), page):
        retirement.take_out(own[start : start + page])
    return retirement.propose()


def take(task: TaskModel, known: list[Example], step: tuple[str, int, int, int], number: int) -> list[Example]:
    """One step on the labels at hand; what has no object is a sample more."""
    kind, first, second, count = step
    labels = [label for label, n in zip(task.labels, task.counts, strict=True) if n]
    one = labels[first % len(labels)] if labels else ""
    other = labels[second % len(labels)] if labels else ""
    if kind == "remove" and labels:
        return teach(task, [], known, [e for e in known if e.label == one][:count])
    if kind == "rename" and labels:
        rename(task, known, one, f"{one}'").commit()
        return renamed(known, one, f"{one}'")
    if kind == "merge" and one != other:
        rename(task, known, one, other).commit()
        return renamed(known, one, other)
    if kind == "retire" and len(labels) > 1:
        retire(task, known, one).commit()
        return [e for e in known if e.label != one]
    return teach(task, examples("abcdef"[first], count, seed=number), known)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@given(steps=st.lists(STEP, min_size=1, max_size=14))
@settings(max_examples=60, deadline=None)
def test_any_interleaving_equals_the_direct_solve(
    dtype: torch.dtype, tolerance: float, steps: list[tuple[str, int, int, int]]
) -> None:
    task, known = learner(), list[Example]()
    task.head = RidgeHead(DIMENSION, 0.1, dtype=dtype)
    task.panel = type(task.panel)(1000, task.head)
    for number, step in enumerate(steps):
        known = take(task, known, step, number)
        if known:
            right = direct_weights(task, known)
            assert float((task.head.weights - right).norm() / right.norm()) <= tolerance
        counts = {label: sum(e.label == label for e in known) for label in task.labels}
        assert dict(zip(task.labels, task.counts, strict=True)) == counts
        by_id = {e.sample_id: e.label for e in known}
        assert {i.sample_id: task.labels[i.class_index] for i in task.panel.items} == by_id
    # Leave-one-out scores divide by 1 - w h, which is near 0 for a class of one sample: float32 has no digits for that.
    if known and dtype is torch.float64:
        fresh = learner()
        fresh.labels, fresh.counts = list(task.labels), [0] * len(task.labels)
        teach(fresh, known, [], bulk=True)
        order = {item.sample_id: row for row, item in enumerate(fresh.panel.items)}
        rows = [order[item.sample_id] for item in task.panel.items]
        assert torch.allclose(task.leave_one_out(), fresh.leave_one_out()[rows], atol=1e-6)


@pytest.mark.parametrize(("young", "old"), [(3, 5), (5, 100), (40, 30), (100, 70)])
def test_a_young_class_that_is_merged_gets_the_weight_of_the_new_one(young: int, old: int) -> None:
    task = learner()
    known = teach(task, [*examples("a", young), *examples("b", old), *examples("c", 20)], [], bulk=True)
    candidate = rename(task, known, "a", "b")
    candidate.commit()
    right = direct_weights(task, renamed(known, "a", "b"))
    assert float((candidate.weights - right).norm() / right.norm()) <= 1e-10
    assert torch.equal(candidate.offsets, task.offsets([young + old, 20]))


def test_a_proposal_changes_nothing_until_it_is_committed() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 10)], [])
    before = [task.head.weights.clone(), task.head.gram.clone(), task.head.inverse.clone(), task.leave_one_out()]
    for candidate in (rename(task, known, "a", "x"), rename(task, known, "a", "b"), retire(task, known, "a")):
        candidate.discard()
        now = [task.head.weights, task.head.gram, task.head.inverse, task.leave_one_out()]
        assert all(torch.equal(one, other) for one, other in zip(before, now, strict=True))
        assert (task.labels, task.counts) == (["a", "b", "c"], [10, 10, 10])


def test_a_merge_is_judged_in_the_new_label_space() -> None:
    """The live head that mixes the two up is right about either."""
    task = learner()
    known = teach(task, [*examples("a", 70), *examples("b", 80), *examples("c", 90)], [], bulk=True)
    judged = rename(task, known, "a", "b").judged
    assert judged.labels == ("b", "c")
    live = task.leave_one_out()
    assert torch.equal(judged.live[:, 0], torch.maximum(live[:, 0], live[:, 1]))
    assert torch.equal(judged.live[:, 1], live[:, 2])
    assert {judged.labels[target] for target in judged.targets.tolist()} == {"b", "c"}


def test_a_retired_label_is_never_answered_and_judges_nobody() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 30, spread=2.0)], [])
    golden = [replace(e, sample_id=f"g-{e.sample_id}", golden=True) for e in examples("b", 4, seed=3)]
    task.seat(golden)
    candidate = retire(task, known, "b")
    assert candidate.labels == ("a", "c")
    assert candidate.judged.labels == ("a", "c", "b")
    assert (candidate.judged.candidate[:, 2] == NEVER).all()
    assert torch.equal(
        candidate.judged.live[:, 2], task.leave_one_out()[[i.class_index != 1 for i in task.panel.items]][:, 1]
    )
    candidate.commit()
    assert {task.labels[item.class_index] for item in task.panel.items} == {"a", "c"}
    assert not any(item.golden for item in task.panel.items)


def test_a_retirement_that_misses_samples_is_a_fault() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 5)], [])
    with pytest.raises(RuntimeError, match="2 samples of 'a'"):
        retire(task, [e for e in known if e.sample_id not in {"s-a-0-0", "s-a-0-1"}], "a")

"""Columns renamed, merged and retired: the head equals one solve over what remains, whatever came before."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.examples import difference, direct_weights, examples, learner, teach, weights_of
from worker.model.change import LabelledFeatures
from worker.model.class_balance import NEVER
from worker.model.proposal import Proposal
from worker.model.relabel import Retirement, propose_rename, reweighted
from worker.model.task_model import TaskModel

STEP = st.tuples(
    st.sampled_from(["add", "add", "remove", "rename", "merge", "retire"]),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 40),
)


def rename(task: TaskModel, known: list[LabelledFeatures], old: str, new: str) -> Proposal:
    members = {label: [e for e in known if e.label == label] for label in reweighted(task, old, new)}
    return propose_rename(task, old, new, members)


def renamed(known: list[LabelledFeatures], old: str, new: str) -> list[LabelledFeatures]:
    return [replace(e, label=new) if e.label == old else e for e in known]


def retire(task: TaskModel, known: list[LabelledFeatures], label: str, page: int = 7) -> Proposal:
    own = [e for e in known if e.label == label]
    retirement = Retirement(task, label)
    for start in range(0, len(own), page):
        retirement.take_out(own[start : start + page])
    return retirement.propose()


def take(
    task: TaskModel, known: list[LabelledFeatures], step: tuple[str, int, int, int], number: int
) -> list[LabelledFeatures]:
    """One step on the labels at hand; what has no object is a sample more."""
    kind, first, second, count = step
    labels = [label for label, n in zip(task.labels, task.counts, strict=True) if n]
    one = labels[first % len(labels)] if labels else ""
    other = labels[second % len(labels)] if labels else ""
    if kind == "remove" and labels:
        return teach(task, [], known, [e for e in known if e.label == one][:count])
    if kind == "rename" and labels:
        task.apply(rename(task, known, one, f"{one}'"))
        return renamed(known, one, f"{one}'")
    if kind == "merge" and one != other:
        task.apply(rename(task, known, one, other))
        return renamed(known, one, other)
    if kind == "retire" and len(labels) > 1:
        task.apply(retire(task, known, one))
        return [e for e in known if e.label != one]
    return teach(task, examples("abcdef"[first], count, seed=number), known)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-8), (torch.float32, 1e-4)])
@given(steps=st.lists(STEP, min_size=1, max_size=14))
@settings(max_examples=60)
def test_any_interleaving_equals_the_direct_solve(
    dtype: torch.dtype, tolerance: float, steps: list[tuple[str, int, int, int]]
) -> None:
    task, known = learner(dtype=dtype), list[LabelledFeatures]()
    for number, step in enumerate(steps):
        known = take(task, known, step, number)
        if known:
            assert difference(weights_of(task), direct_weights(task, known)) <= tolerance
        counts = {label: sum(e.label == label for e in known) for label in task.labels}
        assert dict(zip(task.labels, task.counts, strict=True)) == counts
        by_id = {e.sample_id: e.label for e in known}
        assert {i.sample_id: task.labels[i.class_index] for i in task.evaluation.items} == by_id
    # Leave-one-out scores divide by 1 - w h, which is near 0 for a class of one sample: float32 has no digits for that.
    if known and dtype is torch.float64:
        fresh = learner()
        fresh.restore(dict.fromkeys(task.labels, 0))
        teach(fresh, known, [], bulk=True)
        order = {item.sample_id: row for row, item in enumerate(fresh.evaluation.items)}
        rows = [order[item.sample_id] for item in task.evaluation.items]
        assert torch.allclose(task.leave_one_out(), fresh.leave_one_out()[rows], atol=1e-6)


@pytest.mark.parametrize(("young", "old"), [(3, 5), (5, 100), (40, 30), (100, 70)])
def test_a_young_class_that_is_merged_gets_the_weight_of_the_new_one(young: int, old: int) -> None:
    task = learner()
    known = teach(task, [*examples("a", young), *examples("b", old), *examples("c", 20)], [], bulk=True)
    candidate = rename(task, known, "a", "b")
    task.apply(candidate)
    right = direct_weights(task, renamed(known, "a", "b"))
    assert difference(candidate.stacked.weights, right) <= 1e-10
    assert torch.equal(candidate.stacked.offsets, task.offsets([young + old, 20]))


def test_a_proposal_changes_nothing_until_it_is_applied() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 10)], [])
    before = [tensor.clone() for tensor in held(task)]
    for label in ("x", "b", ""):
        rename(task, known, "a", label) if label else retire(task, known, "a")
        assert all(torch.equal(one, other) for one, other in zip(before, held(task), strict=True))
        assert (task.labels, task.counts) == (["a", "b", "c"], [10, 10, 10])


def held(task: TaskModel) -> list[torch.Tensor]:
    """All that is kept of its heads."""
    own = [each for head in task.heads.values() for each in (head.weights, head.gram, head.inverse)]
    return [*own, task.leave_one_out()]


def test_a_merge_is_judged_in_the_new_label_space() -> None:
    """The live head that mixes the two up is right about either."""
    task = learner()
    known = teach(task, [*examples("a", 70), *examples("b", 80), *examples("c", 90)], [], bulk=True)
    paired = rename(task, known, "a", "b").paired
    assert paired.labels == ("b", "c")
    live = task.leave_one_out()
    assert torch.equal(paired.live[:, 0], torch.maximum(live[:, 0], live[:, 1]))
    assert torch.equal(paired.live[:, 1], live[:, 2])
    assert {paired.labels[target] for target in paired.targets.tolist()} == {"b", "c"}


def test_a_retired_label_is_never_answered_and_judges_nobody() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 30, spread=2.0)], [])
    golden = [replace(e, sample_id=f"g-{e.sample_id}", golden=True) for e in examples("b", 4, seed=3)]
    task.add_to_evaluation(golden)
    candidate = retire(task, known, "b")
    assert candidate.labels == ("a", "c")
    assert candidate.paired.labels == ("a", "c", "b")
    assert (candidate.paired.candidate[:, 2] == NEVER).all()
    assert torch.equal(
        candidate.paired.live[:, 2], task.leave_one_out()[[i.class_index != 1 for i in task.evaluation.items]][:, 1]
    )
    task.apply(candidate)
    assert {task.labels[item.class_index] for item in task.evaluation.items} == {"a", "c"}
    assert not any(item.golden for item in task.evaluation.items)


def test_a_retirement_that_misses_samples_is_a_fault() -> None:
    task = learner()
    known = teach(task, [e for label in "abc" for e in examples(label, 5)], [])
    with pytest.raises(RuntimeError, match="2 samples of 'a'"):
        retire(task, [e for e in known if e.sample_id not in {"s-a-0-0", "s-a-0-1"}], "a")

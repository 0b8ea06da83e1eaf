"""The head equals the direct solve, whatever was added and removed, in whatever order and batches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.model.ridge import RidgeHead, RowChange

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-8}


def rows(seed: int, count: int, dimension: int, classes: int) -> RowChange:
    """Rows as the learner makes them: features of squared norm about 3, young-class weights up to 64."""
    random = np.random.default_rng(seed)
    features = random.standard_normal((count, dimension))
    features *= np.sqrt(3.0) / np.linalg.norm(features, axis=1, keepdims=True)
    return RowChange(
        torch.from_numpy(features),
        torch.from_numpy(random.integers(0, classes, count)),
        torch.from_numpy(2.0 ** random.integers(0, 7, count)),
    )


def part(change: RowChange, index: list[int], sign: float = 1.0) -> RowChange:
    return RowChange(change.features[index], change.classes[index], sign * change.weights[index])


def direct(change: RowChange, keep: list[int], classes: int, regularisation: float) -> torch.Tensor:
    features = change.features[keep].double()
    weighted = features * change.weights[keep].double()[:, None]
    gram = weighted.T @ features + regularisation * torch.eye(features.shape[1], dtype=torch.float64)
    targets = torch.nn.functional.one_hot(change.classes[keep], classes).double()
    solution: torch.Tensor = torch.linalg.solve(gram, weighted.T @ targets)
    return solution


def relative_error(found: torch.Tensor, right: torch.Tensor) -> float:
    """With a floor of 1 % of what a weight is (1 / |phi|): where rows cancel, the right answer is next to nothing."""
    return float((found.double() - right).norm() / right.norm().clamp(min=0.01))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@given(data=st.data())
@settings(max_examples=60)
def test_any_interleaving_of_adds_and_removes_gives_the_direct_solve(dtype: torch.dtype, data: st.DataObject) -> None:
    dimension, classes = data.draw(st.integers(1, 24)), data.draw(st.integers(1, 5))
    regularisation = data.draw(st.sampled_from([0.03, 0.1, 1.0]))
    change = rows(data.draw(st.integers(0, 2**32 - 1)), 40, dimension, classes)
    head = RidgeHead(dimension, regularisation, dtype=dtype)
    outside, inside = list(range(40)), list[int]()
    for _ in range(data.draw(st.integers(1, 12))):
        leave = bool(inside) and data.draw(st.booleans())
        pool = inside if leave else outside
        if not pool:
            continue
        chosen = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=8, unique=True))
        head.apply(head.propose(part(change, chosen, -1.0 if leave else 1.0), classes))
        for index in chosen:
            pool.remove(index)
            (outside if leave else inside).append(index)
    right = direct(change, inside, classes, regularisation)
    if inside:
        assert relative_error(head.weights, right) <= TOLERANCE[dtype]
    else:
        assert head.classes == 0 or float(head.weights.abs().max()) <= TOLERANCE[dtype]


def test_rows_that_cancel_leave_nothing_but_rounding() -> None:
    change = rows(4102, 40, 1, 1)  # the same feature with both signs: the right weight is 0
    head = RidgeHead(1, 0.03, dtype=torch.float32)
    head.apply(head.propose(part(change, [6]), 1))
    head.apply(head.propose(part(change, [0, 1]), 1))
    assert relative_error(head.weights, direct(change, [0, 1, 6], 1, 0.03)) <= TOLERANCE[torch.float32]


def test_a_row_that_is_nearly_all_there_is_can_leave_in_float32() -> None:
    change = rows(1120992, 40, 15, 1)  # the leverages round to a singular system on a worn inverse
    head = RidgeHead(15, 0.03, dtype=torch.float32)
    head.apply(head.propose(part(change, [2]), 1))
    head.apply(head.propose(part(change, [2], -1.0), 1))
    assert float(head.weights.abs().max()) <= TOLERANCE[torch.float32]


@given(order=st.permutations(range(20)), cut=st.integers(1, 19))
@settings(max_examples=30)
def test_order_and_batching_do_not_matter(order: list[int], cut: int) -> None:
    change = rows(3, 20, 12, 3)
    one, other = RidgeHead(12, 0.1), RidgeHead(12, 0.1)
    one.apply(one.propose(change, 3))
    for batch in (order[:cut], order[cut:]):
        other.apply(other.propose(part(change, list(batch)), 3))
    assert relative_error(other.weights, one.weights.double()) <= 1e-8


def test_a_new_class_leaves_the_old_columns_as_a_joint_fit_would() -> None:
    change = rows(5, 30, 10, 4)
    early = [index for index in range(30) if change.classes[index] < 3]
    late = [index for index in range(30) if change.classes[index] == 3]
    head = RidgeHead(10, 0.1)
    head.apply(head.propose(part(change, early), 3))
    assert head.classes == 3
    head.apply(head.propose(part(change, late), 4))
    assert head.classes == 4
    assert relative_error(head.weights, direct(change, list(range(30)), 4, 0.1)) <= 1e-8


def test_a_proposal_changes_nothing_until_it_is_applied() -> None:
    change = rows(7, 10, 6, 2)
    head = RidgeHead(6, 0.1)
    head.apply(head.propose(part(change, [0, 1, 2]), 2))
    before = (head.gram.clone(), head.moments.clone(), head.inverse.clone(), head.weights.clone())
    head.propose(part(change, [3, 4]), 2)
    for old, new in zip(before, (head.gram, head.moments, head.inverse, head.weights), strict=True):
        assert torch.equal(old, new)


def test_another_lambda_is_exact_after_updates() -> None:
    change = rows(9, 25, 8, 3)
    head = RidgeHead(8, 0.1)
    for index in range(25):
        head.apply(head.propose(part(change, [index]), 3))
    head.refit(3.0)
    assert relative_error(head.weights, direct(change, list(range(25)), 3, 3.0)) <= 1e-10
    head.apply(head.propose(part(change, [0], -1.0), 3))
    assert relative_error(head.weights, direct(change, list(range(1, 25)), 3, 3.0)) <= 1e-8


def test_a_copy_is_independent() -> None:
    change = rows(11, 10, 6, 2)
    head = RidgeHead(6, 0.1)
    head.apply(head.propose(part(change, [0, 1, 2]), 2))
    weights = head.weights.clone()
    other = head.copy()
    other.apply(other.propose(part(change, [3, 4, 5]), 2))
    assert torch.equal(head.weights, weights)
    head.apply(head.propose(part(change, [6]), 2))
    assert relative_error(other.weights, direct(change, [0, 1, 2, 3, 4, 5], 2, 0.1)) <= 1e-8


def test_two_thousand_updates_do_not_drift() -> None:
    change = rows(13, 200, 16, 3)
    head = RidgeHead(16, 0.03)
    head.apply(head.propose(part(change, list(range(100))), 3))
    for step in range(1_000):  # every sample of the second half comes and goes ten times
        index = 100 + step % 100
        head.apply(head.propose(part(change, [index]), 3))
        head.apply(head.propose(part(change, [index], -1.0), 3))
    assert relative_error(head.weights, direct(change, list(range(100)), 3, 0.03)) <= 1e-8


def test_a_head_is_made_again_of_its_statistics() -> None:
    change = rows(14, 12, 6, 3)
    head, other = RidgeHead(6, 0.1), RidgeHead(6, 0.1)
    head.apply(head.propose(part(change, list(range(12))), 3))
    other.restore(head.statistics())
    assert torch.equal(other.gram, head.gram)
    assert relative_error(other.weights, head.weights) <= 1e-10


def test_rows_that_are_nearly_the_same_come_and_go_in_float64() -> None:
    """Their system is close to singular: a step worked out with it alone was wrong in the seventh digit."""
    change = rows(20, 40, 1, 3)
    head, inside = RidgeHead(1, 0.03), list[int]()
    for index in ([0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 10, 11, 12, 13, 14], [15, 16, 17, 18, 19, 20]):
        head.apply(head.propose(part(change, index), 3))
        inside += index
        assert relative_error(head.weights, direct(change, inside, 3, 0.03)) <= 1e-9

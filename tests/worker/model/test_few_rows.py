"""A head of few rows keeps no matrix, and is in every respect the head that does."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.worker.model.test_ridge import direct, part, relative_error, rows
from worker.model.gram_matrix import GramMatrix
from worker.model.ridge import RidgeHead, RowChange

SIZE = 40  # so up to 10 rows are few


def whole(dimension: int, regularisation: float) -> RidgeHead:
    """A head that has its matrices from the beginning."""
    head = RidgeHead(dimension, regularisation)
    head.restore({"gram": torch.zeros(dimension * (dimension + 1) // 2).double(), "moments": head.moments})
    return head


@given(data=st.data())
@settings(max_examples=60)
def test_few_rows_and_many_agree_in_everything(data: st.DataObject) -> None:
    change = rows(data.draw(st.integers(0, 2**32 - 1)), 14, SIZE, 3)
    few, many, inside = RidgeHead(SIZE, 0.1), whole(SIZE, 0.1), list[int]()
    for _ in range(data.draw(st.integers(1, 10))):
        leave = bool(inside) and data.draw(st.booleans())
        pool = inside if leave else [index for index in range(14) if index not in inside]
        if not pool:
            continue
        chosen = data.draw(st.lists(st.sampled_from(pool), min_size=1, max_size=5, unique=True))
        step = part(change, chosen, -1.0 if leave else 1.0)
        if data.draw(st.booleans()):
            few.apply(few.propose(step, 3))
        else:
            few.absorb(step, 3)
            few.refit()
        many.apply(many.propose(step, 3))
        inside = [index for index in inside if index not in chosen] if leave else inside + chosen
        if data.draw(st.booleans()):
            few = few.copy()
        if data.draw(st.booleans()):
            other = RidgeHead(SIZE, few.regularisation)
            other.restore(few.statistics())
            few = other
    assert few._gram.rows == len(inside) or len(inside) > 5 or few._gram.rows is None
    for found, right in (
        (few.weights, many.weights),
        (few.leverages(change.features), many.leverages(change.features)),
        (few.corner(7, part(change, [0, 1])), many.corner(7, part(change, [0, 1]))),
        (few.diagonal(part(change, [2])), many.diagonal(part(change, [2]))),
        (few.diagonal(), few.gram.diagonal()),
        (few.gram, many.gram),
        (few.inverse, many.inverse),
        (few.gain(change.features).system, many.gain(change.features).system),
        (few.system(3.0).leverages(change.features), many.system(3.0).leverages(change.features)),
        (few.system(3.0).solve(few.moments), many.system(3.0).solve(many.moments)),
    ):
        torch.testing.assert_close(found, right, rtol=1e-7, atol=1e-8)
    if inside:
        assert relative_error(few.weights, direct(change, inside, 3, 0.1)) <= 1e-8


def test_a_small_head_has_no_number_for_each_pair_of_columns() -> None:
    change = rows(1, 50, 4096, 3)
    head = RidgeHead(4096, 0.1)
    for start in range(0, 50, 10):
        head.apply(head.propose(part(change, list(range(start, start + 10))), 3))
    for index in range(50):  # every weight changes three times: the rows stay the same
        again = part(change, [index])
        for weights in (again.weights, -again.weights, again.weights):
            head.apply(head.propose(RowChange(again.features, again.classes, weights), 3))
    assert head._gram.rows == 50
    assert not head._inverse.is_whole
    assert head._inverse.waiting <= 1024
    assert sum(tensor.numel() for tensor in head.statistics().values()) < 53.1 * 4096
    assert relative_error(head.weights, direct(doubled(change), list(range(50)), 3, 0.1)) <= 1e-8


def doubled(change: RowChange) -> RowChange:
    return RowChange(change.features, change.classes, 2 * change.weights)


def test_steps_on_the_same_few_rows_never_fill_the_inverse() -> None:
    change = rows(2, 4, SIZE, 2)
    head = RidgeHead(SIZE, 0.1)
    head.apply(head.propose(change, 2))
    for _ in range(30):
        for sign in (1.0, -1.0):
            head.apply(head.propose(part(change, [1, 2], sign), 2))
    assert not head._inverse.is_whole
    assert relative_error(head.weights, direct(change, [0, 1, 2, 3], 2, 0.1)) <= 1e-9


def test_a_row_that_comes_again_in_another_rounding_is_the_same_row() -> None:
    change = rows(3, 5, SIZE, 2)
    matrix, rounded = GramMatrix(SIZE, torch.device("cpu")), change.features.float().double()
    matrix.add(change.features, change.weights)
    matrix.add(rounded[:2], change.weights[:2])
    assert matrix.rows == 5
    matrix.add(rounded[:2], -2 * change.weights[:2])
    assert matrix.rows == 3


def test_a_row_that_leaves_without_having_come_makes_a_matrix_of_it() -> None:
    change = rows(4, 5, SIZE, 2)
    matrix = GramMatrix(SIZE, torch.device("cpu"))
    matrix.add(change.features[:4], change.weights[:4])
    matrix.add(change.features[4:], -change.weights[4:])
    assert matrix.rows is None
    signed = change.weights * torch.tensor([1.0, 1, 1, 1, -1])
    torch.testing.assert_close(matrix.whole(), (change.features * signed[:, None]).T @ change.features)


@pytest.mark.parametrize("size", [64, 3000])
def test_sparse_rows_are_added_as_any_others(size: int) -> None:
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(400, size, dtype=torch.float64, generator=generator)
    features *= torch.rand(400, size, generator=generator) < 0.05
    weights = torch.rand(400, dtype=torch.float64, generator=generator) + 0.5
    matrix = GramMatrix(size, torch.device("cpu"))
    for start in (0, 300):
        matrix.add(features[start : start + 300], weights[start : start + 300])
    torch.testing.assert_close(matrix.whole(), (features * weights[:, None]).T @ features)

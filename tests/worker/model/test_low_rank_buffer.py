"""A matrix that adds its changes up later is, at every moment, the matrix that adds them at once."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.model.low_rank_buffer import WIDTH, LowRankBuffer

SIZE = 7


@given(
    widths=st.lists(st.integers(1, WIDTH + 2), max_size=12),
    seed=st.integers(0, 2**31),
    settled=st.sets(st.integers(0, 11)),
)
@settings(max_examples=60)
def test_it_is_what_was_added_at_every_moment(widths: list[int], seed: int, settled: set[int]) -> None:
    torch.manual_seed(seed)
    right = torch.randn(SIZE, SIZE, dtype=torch.float64)
    delayed, rows = LowRankBuffer(right.clone()), torch.randn(3, SIZE, dtype=torch.float64)
    for step, width in enumerate(widths):
        left, other = torch.randn(SIZE, width, dtype=torch.float64), torch.randn(width, SIZE, dtype=torch.float64)
        delayed.add(left, other)
        right += left @ other
        if step in settled:
            torch.testing.assert_close(delayed.settle(), right)
        torch.testing.assert_close(delayed.after(rows), rows @ right)
        torch.testing.assert_close(delayed.corner(4), right[:4, :4])
        torch.testing.assert_close(delayed.diagonal(), right.diagonal())
    torch.testing.assert_close(delayed.copy().settle(), right)
    torch.testing.assert_close(delayed.settle(), right)


def test_what_waits_is_bounded_and_a_product_does_not_settle_it() -> None:
    start = torch.zeros(SIZE, SIZE, dtype=torch.float64)
    delayed, column = LowRankBuffer(start), torch.ones(SIZE, 1, dtype=torch.float64)
    for _ in range(WIDTH - 1):
        delayed.add(column, column.T)
        delayed.after(column.T)
        delayed.corner(2)
    assert not start.any()  # all of it waits
    delayed.add(column, column.T)
    assert bool((start == WIDTH).all())


def test_a_copy_is_independent() -> None:
    delayed, column = LowRankBuffer(torch.zeros(SIZE, SIZE)), torch.ones(SIZE, 1)
    delayed.add(column, column.T)
    copy = delayed.copy()
    copy.add(column, column.T)
    assert float(delayed.settle()[0, 0]) == 1.0
    assert float(copy.settle()[0, 0]) == 2.0

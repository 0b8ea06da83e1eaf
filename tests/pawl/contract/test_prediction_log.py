"""The contract of `PredictionLog`, on every backend."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from pawl.domain.predictions import Prediction
from tests.pawl.contract.backends import OpenStores


def answer(stores: OpenStores, id: str, age_hours: float = 0.0) -> Prediction:
    created_at = stores.clock.now() - timedelta(hours=age_hours)
    return Prediction(id, 12, "default", f"text of {id}", "card", 0.93, "both", created_at)


async def test_what_was_answered_can_be_named(stores: OpenStores) -> None:
    written = [answer(stores, f"pr_{n}") for n in range(1500)]
    await stores.predictions.write(written)
    await stores.predictions.write([])
    found = await stores.predictions.get_many([*(one.id for one in written), "pr_unknown", "pr_1"])
    assert found == {one.id: one for one in written}
    assert await stores.predictions.get_many([]) == {}


async def test_an_id_that_exists_is_left_as_it_is(stores: OpenStores) -> None:
    first = answer(stores, "pr_1")
    await stores.predictions.write([first])
    await stores.predictions.write([replace(first, label="other"), answer(stores, "pr_2")])
    found = await stores.predictions.get_many(["pr_1", "pr_2"])
    assert found["pr_1"] == first
    assert found.keys() == {"pr_1", "pr_2"}


async def test_old_answers_and_all_but_the_newest_expire(stores: OpenStores) -> None:
    written = [answer(stores, f"pr_{n}", age_hours=n) for n in range(10)]
    await stores.predictions.write(written)
    limit = stores.clock.now() - timedelta(hours=7)
    assert await stores.predictions.expire(limit, keep=100) == 2
    assert await stores.predictions.expire(limit, keep=5) == 3
    assert await stores.predictions.expire(limit, keep=5) == 0
    left = await stores.predictions.get_many([one.id for one in written])
    assert sorted(left) == [f"pr_{n}" for n in range(5)]
    assert await stores.predictions.expire(limit, keep=0) == 5


async def test_more_than_one_transaction_can_hold_expires(stores: OpenStores) -> None:
    await stores.predictions.write([answer(stores, f"pr_{n}", age_hours=n % 2) for n in range(4100)])
    limit = stores.clock.now() - timedelta(minutes=30)
    assert await stores.predictions.expire(limit, keep=10) == 4090

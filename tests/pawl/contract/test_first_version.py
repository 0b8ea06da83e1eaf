"""What makes a first version is asked of all that waits, without the samples that a newer label overtakes."""

from __future__ import annotations

from collections import Counter

from pawl.domain.samples import NewSample, SampleState
from tests.pawl.contract.backends import OpenStores


async def test_two_labels_of_one_text_are_one_label(stores: OpenStores) -> None:
    await stores.samples.accept([NewSample("same", label) for label in "ab"])
    await stores.samples.accept([NewSample(f"text {n}", "b") for n in range(9)])
    assert not await stores.samples.makes_first_version(2)
    await stores.accept("another", "a")
    assert await stores.samples.makes_first_version(11)
    assert not await stores.samples.makes_first_version(12)  # the overtaken one does not count
    found = await stores.samples.first_samples(100)
    assert Counter(one.label for one in found) == {"a": 1, "b": 10}


async def test_two_labels_must_be_of_one_task(stores: OpenStores) -> None:
    for n in range(5):
        await stores.accept(f"text {n}", "a")
        await stores.accept(f"text {n}", "b", task="other")
    assert not await stores.samples.makes_first_version(2)
    await stores.accept("text", "c", task="other")
    assert await stores.samples.makes_first_version(2)


async def test_the_order_of_the_rows_does_not_count(stores: OpenStores) -> None:
    """More rows of one label, first, than a first version takes."""
    await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(300)])
    await stores.samples.accept([NewSample(f"more {n}", "b") for n in range(3)])
    assert await stores.samples.makes_first_version(10)
    found = await stores.samples.first_samples(50)
    assert Counter(one.label for one in found) == {"a": 47, "b": 3}
    assert [one.seq for one in found] == sorted(one.seq for one in found)


async def test_only_what_waits_counts(stores: OpenStores) -> None:
    held, *_ = [await stores.accept(f"text {label}", label) for label in "aab"]
    await stores.accept("judge", "c", golden=True)
    await stores.samples.settle(SampleState.QUARANTINED, {held.id: "x"})
    assert not await stores.samples.makes_first_version(2)
    assert [one.label for one in await stores.samples.first_samples(10)] == ["b"]

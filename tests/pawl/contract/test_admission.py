"""A rule about labels, sizes or states holds at every entrance, because it is the stores that know it."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from pawl.domain.errors import ItemsRefused
from pawl.domain.forms import clean_name, likeness
from pawl.domain.samples import NewSample
from tests.pawl.contract.backends import OpenStores
from tests.pawl.contract.label_changes import ask, carry_out, three_labels

CAFE = "caf\u00e9"


async def refused(stores: OpenStores, *items: NewSample) -> list[tuple[int, str, str]]:
    """The faults of items, which `examine` and `accept` find alike; nothing is stored."""
    before = await stores.samples.get_many([one.id for one in await stores.samples.queued(100)])
    examined = (await stores.samples.examine(items)).faults
    with pytest.raises(ItemsRefused) as caught:
        await stores.samples.accept(items)
    faults: Any = caught.value.details["faults"]
    assert examined == faults
    assert await stores.samples.queued(100) == before
    return [(fault.index, fault.field, fault.problem) for fault in faults]


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (unicodedata.normalize("NFD", CAFE), CAFE),
        (f"\u200b {CAFE}\ufeff\n", CAFE),
        ("cafe\u200b\u0301", CAFE),
        ("re\u00adfu\u2060nd\x00\x07", "refund"),
        ("gift\tcard\r\n", "gift card"),
        ("\u3000gift  card\u00a0", "gift  card"),
        ("\U0001f468\u200d\U0001f469", "\U0001f468\U0001f469"),
        (".", "."),
    ],
)
async def test_labels_are_kept_in_one_form(stores: OpenStores, sent: str, kept: str) -> None:
    first = await stores.accept("text", sent)
    assert (await stores.samples.get(first.id)).label == kept
    assert first.label == (None if sent == kept else kept)
    assert not (await stores.accept("text", kept)).is_new
    assert clean_name(kept) == kept


async def test_texts_are_kept_in_nfc(stores: OpenStores) -> None:
    first = await stores.accept(unicodedata.normalize("NFD", f" {CAFE}"), "a")
    assert (await stores.samples.get(first.id)).text == f" {CAFE}"
    assert not (await stores.accept(f" {CAFE}", "a")).is_new


async def test_every_fault_of_every_item_is_named_and_nothing_is_stored(stores: OpenStores) -> None:
    await three_labels(stores)
    await carry_out(stores, await ask(stores, "retire", "a"))
    good: dict[str, Any] = {"text": "fine", "label": "b"}
    bad: list[dict[str, Any]] = [
        {"label": "a"},
        {"label": " \u200b\x01"},
        {"label": "l" * 201},
        {"text": " \n"},
        {"text": "nul \0", "weight": 1e-308},
        {"text": "half \ud800"},
        {"weight": float("nan")},
        {"weight": float("inf")},
        {"weight": 100.01},
        {"source": "\u200b"},
        {"task": "No Task"},
        {"task": "defualt"},
        {"label": None},
    ]
    faults = await refused(stores, NewSample(**good), *(NewSample(**good | one) for one in bad), NewSample(**good))
    assert [(index, field) for index, field, _ in faults] == [
        (1, "label"),
        (2, "label"),
        (3, "label"),
        (4, "text"),
        (5, "text"),
        (5, "weight"),
        (6, "text"),
        (7, "weight"),
        (8, "weight"),
        (9, "weight"),
        (10, "source"),
        (11, "task"),
        (12, "task"),
        (13, "label"),
    ]
    problems = {(index, field): problem for index, field, problem in faults}
    assert "was retired" in problems[1, "label"]
    assert problems[5, "weight"] == "it must be from 0.01 to 100"
    assert "did you mean 'default'?" in problems[12, "task"]


@pytest.mark.parametrize("weight", [0.01, 1, 100])
async def test_weights_at_the_limits(stores: OpenStores, weight: float) -> None:
    assert (await stores.samples.get((await stores.accept("text", "a", weight=weight)).id)).weight == weight


async def test_a_new_task_is_made_only_where_that_was_said(stores: OpenStores) -> None:
    await stores.accept("text", "a", create_task=False)  # `default` is always there
    [(index, field, problem)] = await refused(stores, NewSample("text", "good", task="mood"))
    assert (index, field) == (0, "task")
    assert "there are default" in problem
    assert "`create_task`" in problem
    first = await stores.accept("text", "good", task="mood", create_task=True)
    assert (await stores.accept("more", "bad", task="mood", create_task=False)).is_new
    [(_, _, problem)] = await refused(stores, NewSample("text", "good", task="moo"))
    assert "default, mood" in problem
    assert "did you mean 'mood'?" in problem
    await stores.samples.request_retraction(first.id)
    assert (await stores.accept("again", "good", task="mood", create_task=False)).is_new


async def test_a_label_that_is_probably_another_is_accepted_with_a_warning(stores: OpenStores) -> None:
    await stores.accept("one", "gift card")
    for n, label in enumerate(["Gift Card", "GIFTCARD", "\uff27ift card", "gift  card"]):
        receipt = await stores.accept(f"text {n}", label)
        assert receipt.is_new
        assert (await stores.samples.get(receipt.id)).label == label
        assert any("probably the same as 'gift card'" in one for one in receipt.warnings)
        assert any(f"pawl labels merge '{label}' 'gift card'" in one for one in receipt.warnings) or label == "GIFTCARD"
    assert (await stores.accept("other", "gift-card")).warnings == ()
    assert (await stores.accept("elsewhere", "Gift card", task="mood")).warnings == ()


async def test_a_label_like_a_retired_one_is_told_so(stores: OpenStores) -> None:
    await three_labels(stores)
    await carry_out(stores, await ask(stores, "retire", "a"))
    [warning] = (await stores.accept("text", "A")).warnings
    assert "probably the same as 'a', which was retired" in warning


async def test_two_like_labels_in_one_call_warn_at_the_second(stores: OpenStores) -> None:
    receipts = await stores.samples.accept([NewSample("one", "yes"), NewSample("two", "Yes"), NewSample("three", "no")])
    assert [len(one.warnings) for one in receipts] == [0, 1, 0]


def test_likeness_sees_no_case_width_or_white_space() -> None:
    assert len({likeness(label) for label in ("Stra\u00dfe", "STRASSE", " stra sse", "\uff33trasse")}) == 1
    assert likeness("refund") != likeness("refund_status")

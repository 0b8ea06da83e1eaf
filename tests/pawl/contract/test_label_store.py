"""The contract of `LabelStore`: what can be asked for, on every backend."""

from __future__ import annotations

import pytest

from pawl.domain.errors import (
    Conflict,
    InvalidInput,
    LabelChangeNotFound,
    LabelChangePending,
    LabelExists,
    LabelNotFound,
    QueueFull,
    TooFewLabels,
    UnknownMergeTarget,
)
from pawl.domain.labels import LabelChangeState, LabelState
from tests.pawl.contract.backends import OpenStores
from tests.pawl.contract.label_changes import ask, carry_out, three_labels


async def test_a_request_waits_and_is_told(stores: OpenStores) -> None:
    await three_labels(stores)
    change = await ask(stores, "rename", "a", "A", reason="spelling")
    assert change.id.startswith("lc_")
    assert (change.state, change.version, change.reason) == (LabelChangeState.PENDING, None, "spelling")
    assert change.requested_at == stores.clock.now()
    assert await stores.labels.get(change.id) == change
    assert await stores.labels.pending() == [change]
    [summary] = [one for one in await stores.labels.summaries("default") if one.pending]
    assert (summary.name, summary.pending, summary.samples["learned"]) == ("a", change.id, 2)
    event = (await stores.ledger.events(0, 100))[-1]
    assert (event.type, event.payload["id"], event.payload["kind"]) == ("label_change_requested", change.id, "rename")
    with pytest.raises(LabelChangeNotFound):
        await stores.labels.get("lc_none")


async def test_an_added_label_is_there_at_once(stores: OpenStores) -> None:
    change = await ask(stores, "add", "new")
    assert (change.state, change.settled_at) == (LabelChangeState.APPLIED, stores.clock.now())
    assert await stores.labels.pending() == []
    [summary] = await stores.labels.summaries("default")
    assert (summary.name, summary.state, summary.since_version) == ("new", LabelState.ACTIVE, None)
    assert [event.type for event in await stores.ledger.events(0, 10)] == ["label_change_requested", "label_changed"]
    with pytest.raises(LabelExists):
        await ask(stores, "add", "new")
    await stores.accept("text", "spoken of")
    with pytest.raises(LabelExists):
        await ask(stores, "add", "spoken of")
    assert (await ask(stores, "add", "new", task="mood", create_task=True)).state is LabelChangeState.APPLIED


@pytest.mark.parametrize(
    ("kind", "label", "target", "error"),
    [
        ("rename", "x", "y", LabelNotFound),
        ("rename", "a", "b", LabelExists),
        ("rename", "a", "a", InvalidInput),
        ("merge", "x", "a", LabelNotFound),
        ("merge", "a", "x", UnknownMergeTarget),
        ("merge", "a", "a", InvalidInput),
        ("retire", "x", None, LabelNotFound),
    ],
)
async def test_what_cannot_be_asked_for(
    stores: OpenStores, kind: str, label: str, target: str | None, error: type[Exception]
) -> None:
    await three_labels(stores)
    with pytest.raises(error):
        await ask(stores, kind, label, target)
    assert await stores.labels.pending() == []


async def test_two_labels_stay(stores: OpenStores) -> None:
    await three_labels(stores)
    change = await ask(stores, "retire", "c")
    for kind, target in (("retire", None), ("merge", "b")):
        with pytest.raises(TooFewLabels, match="fewer than 2"):
            await ask(stores, kind, "a", target)
    await carry_out(stores, change)
    with pytest.raises(TooFewLabels):
        await ask(stores, "merge", "a", "b")
    assert (await ask(stores, "rename", "a", "A")).state is LabelChangeState.PENDING


async def test_changes_that_meet_wait_for_each_other(stores: OpenStores) -> None:
    await three_labels(stores)
    await stores.learn(await stores.accept("d", "d"))
    first = await ask(stores, "merge", "a", "b")
    for kind, label, target in (("retire", "a", None), ("rename", "b", "B"), ("merge", "c", "a"), ("add", "a", None)):
        with pytest.raises(LabelChangePending, match=first.id):
            await ask(stores, kind, label, target)
    assert (await ask(stores, "merge", "c", "b")).state is LabelChangeState.PENDING
    await ask(stores, "rename", "d", "e")
    with pytest.raises(Conflict):
        await ask(stores, "merge", "b", "e")


async def test_the_number_that_wait_is_bounded(stores: OpenStores) -> None:
    for n in range(101):
        await stores.accept(f"text {n}", f"label {n}")
    for n in range(100):
        await ask(stores, "rename", f"label {n}", f"new {n}")
    with pytest.raises(QueueFull, match="label changes"):
        await ask(stores, "retire", "label 100")

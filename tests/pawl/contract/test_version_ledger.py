"""The contract of `VersionLedger`, on every backend."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import pytest
from sqlalchemy import text

from pawl.domain.errors import CandidateStale, ParentNotLive, VersionNotFound
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import (
    LedgerAction,
    LedgerChange,
    LedgerRow,
    NewVersion,
    RefusedAction,
    Version,
    VersionKind,
    VersionState,
)
from tests.pawl.contract.backends import OpenStores, candidate

NOTHING = LedgerChange()


async def accepted(stores: OpenStores, count: int) -> list[str]:
    return [one.id for one in await stores.samples.accept([NewSample(f"text {n}", "a") for n in range(count)])]


async def states(stores: OpenStores, ids: Sequence[str]) -> list[SampleState]:
    return [sample.state for sample in await stores.samples.get_many(ids)]


async def observed(stores: OpenStores) -> tuple[object, ...]:
    """Everything a reader can see, to compare before and after."""
    return (
        await stores.ledger.page(None, 100),
        await stores.ledger.ledger(0),
        await stores.ledger.events(0, 100),
        await stores.samples.queued(100),
        await stores.samples.learned("default"),
    )


async def test_an_empty_ledger(stores: OpenStores) -> None:
    assert await stores.ledger.live() is None
    assert await stores.ledger.next_number() == 1
    assert await stores.ledger.page(None, 10) == []
    assert await stores.ledger.last_event_id() == 0
    assert await stores.ledger.learner_status() is None
    await stores.ledger.ping()
    with pytest.raises(VersionNotFound, match="3"):
        await stores.ledger.get(3)


async def test_a_promotion_writes_everything_it_stands_for(stores: OpenStores) -> None:
    ids = await accepted(stores, 3)
    stores.clock.advance(seconds=1)
    now = stores.clock.now()
    new = candidate(1, None, VersionKind.BOOTSTRAP)
    change = LedgerChange(learned=tuple(ids[:2]), dropped={ids[2]: ids[0]}, emphasis={ids[1]: 2.5})
    version = await stores.ledger.promote(new, change)
    expected = {name: getattr(new, name) for name in NewVersion.__slots__}
    assert version == Version(**expected, state=VersionState.LIVE, created_at=now, promoted_at=now, artefacts_kept=True)
    assert version.labels == {"default": ("card", "refund"), "mood": ("good",)}
    assert version == await stores.ledger.live() == await stores.ledger.get(1)
    learned = await stores.samples.get(ids[0])
    assert (learned.state, learned.learned_in_version, learned.updated_at) == (SampleState.LEARNED, 1, now)
    assert [one.emphasis for one in await stores.samples.get_many(ids)] == [1.0, 2.5, 1.0]
    dropped = await stores.samples.get(ids[2])
    assert (dropped.state, dropped.reason) == (SampleState.RETRACTED, f"replaced by {ids[0]}")
    assert (dropped.replaced_by, dropped.learned_in_version) == (ids[0], None)
    assert await stores.ledger.ledger(0) == [LedgerRow(1, id, LedgerAction.LEARN) for id in ids[:2]]
    promoted, told = await stores.ledger.events(0, 10)
    assert (promoted.type, told.type) == ("version_promoted", "feedback_learned")
    assert promoted.payload == {
        "version": 1,
        "parent": None,
        "kind": "bootstrap",
        "trigger": "feedback",
        "promoted_by": "worker",
        "reason": "because",
        "learned": 2,
        "unlearned": 0,
        "dropped": 1,
        "quarantined": 0,
        "restored": 0,
        "requeued": 0,
    }
    assert told.payload == {"version": 1, "ids": ids[:2], "count": 2}


async def test_the_next_version_retires_its_parent(stores: OpenStores) -> None:
    await stores.ledger.promote(candidate(1, None), NOTHING)
    await stores.ledger.promote(candidate(2, 1), NOTHING)
    assert [(one.number, one.state.value) for one in await stores.ledger.page(None, 10)] == [
        (2, "live"),
        (1, "retired"),
    ]


@pytest.mark.parametrize("parent", [None, 1, 7])
async def test_a_candidate_of_another_parent_is_refused_and_changes_nothing(
    stores: OpenStores, parent: int | None
) -> None:
    await stores.ledger.promote(candidate(1, None), NOTHING)
    await stores.ledger.promote(candidate(2, 1), NOTHING)
    ids = await accepted(stores, 1)
    before = await observed(stores)
    with pytest.raises(ParentNotLive) as caught:
        await stores.ledger.promote(candidate(3, parent), LedgerChange(learned=tuple(ids)))
    assert caught.value.details == {"parent": parent, "live": 2}
    assert await observed(stores) == before


async def test_a_parent_that_never_was(stores: OpenStores) -> None:
    with pytest.raises(ParentNotLive) as caught:
        await stores.ledger.promote(candidate(2, 1), NOTHING)
    assert caught.value.details == {"parent": 1, "live": None}
    assert await stores.ledger.page(None, 10) == []


@pytest.mark.parametrize("parent", [None, 1])
@pytest.mark.parametrize("same_number", [False, True])
async def test_of_two_promotions_on_one_parent_exactly_one_wins(
    stores: OpenStores, parent: int | None, same_number: bool
) -> None:
    if parent is not None:
        await stores.ledger.promote(candidate(1, None), NOTHING)
    ids = await accepted(stores, 2)
    outcomes = await asyncio.gather(
        *(
            stores.ledger.promote(candidate(2 if same_number else 2 + n, parent), LedgerChange(learned=(ids[n % 2],)))
            for n in range(6)
        ),
        return_exceptions=True,
    )
    won = [outcome for outcome in outcomes if isinstance(outcome, Version)]
    lost = [outcome for outcome in outcomes if isinstance(outcome, ParentNotLive)]
    assert (len(won), len(lost)) == (1, 5)
    live = await stores.ledger.live()
    assert live is not None
    assert live.number == won[0].number
    assert len(await stores.ledger.ledger(1)) == 1
    assert sorted(state.value for state in await states(stores, ids)) == ["learned", "queued"]


async def test_a_number_is_never_used_twice(stores: OpenStores) -> None:
    await stores.ledger.promote(candidate(1, None), NOTHING)
    await stores.ledger.refuse(candidate(2, 1), NOTHING, {})
    assert await stores.ledger.next_number() == 3
    before = await observed(stores)
    for call in (stores.ledger.promote, partial(stores.ledger.refuse, harmful={})):
        with pytest.raises(CandidateStale, match="number 2"):
            await call(candidate(2, 1), NOTHING)
    assert await observed(stores) == before


@pytest.mark.parametrize("change", ["learned", "dropped", "quarantined", "unlearned", "trained"])
async def test_a_sample_in_another_state_than_the_change_starts_from(stores: OpenStores, change: str) -> None:
    good, bad, learned = await accepted(stores, 3)
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(learned,)))
    await stores.samples.request_retraction(bad)
    changes = {
        "learned": LedgerChange(learned=(good, bad)),
        "dropped": LedgerChange(learned=(good,), dropped={learned: "x"}),
        "quarantined": LedgerChange(learned=(good,), quarantined={bad: "x"}),
        "unlearned": LedgerChange(unlearned={learned: "x", good: "x"}),
        "trained": LedgerChange(learned=(good,), trained=("fb_unknown",)),
    }
    before = await observed(stores)
    with pytest.raises(CandidateStale, match=r"fb_.* is "):
        await stores.ledger.promote(candidate(2, 1), changes[change])
    assert await observed(stores) == before


async def test_a_change_that_names_a_sample_twice_is_a_mistake_of_the_caller(stores: OpenStores) -> None:
    [id] = await accepted(stores, 1)
    with pytest.raises(ValueError, match="twice"):
        await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(id,), dropped={id: "x"}))
    assert await stores.ledger.live() is None


async def test_unlearning_takes_a_sample_out_once(stores: OpenStores) -> None:
    old, new = await accepted(stores, 2)
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(old,)))
    change = LedgerChange(learned=(new,), replaced={old: new})
    await stores.ledger.promote(candidate(2, 1), change)
    sample = await stores.samples.get(old)
    assert (sample.state, sample.reason) == (SampleState.RETRACTED, f"replaced by {new}")
    assert sample.replaced_by == new
    assert sample.learned_in_version == 1
    assert await stores.ledger.ledger(1) == [
        LedgerRow(2, old, LedgerAction.UNLEARN),
        LedgerRow(2, new, LedgerAction.LEARN),
    ]
    with pytest.raises(CandidateStale, match="retracted"):
        await stores.ledger.promote(candidate(3, 2), LedgerChange(unlearned={old: "again"}))


async def test_a_roll_back_quarantines_what_was_learned_since(stores: OpenStores) -> None:
    first, second, retracting, queued = await accepted(stores, 4)
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(first,)))
    await stores.ledger.promote(candidate(2, 1), LedgerChange(learned=(second, retracting)))
    await stores.samples.request_retraction(retracting)
    change = LedgerChange(quarantined=dict.fromkeys((second, retracting, queued), "roll-back to 1"))
    version = await stores.ledger.promote(candidate(3, 2, VersionKind.ROLLBACK), change)
    assert version.number == 3
    # What its client wants gone must not wait in quarantine, from where it could be released.
    assert await states(stores, [first, second, retracting, queued]) == [
        SampleState.LEARNED,
        SampleState.QUARANTINED,
        SampleState.RETRACTED,
        SampleState.QUARANTINED,
    ]
    rolled_back = await stores.samples.get(second)
    assert (rolled_back.learned_in_version, rolled_back.reason) == (2, "roll-back to 1")
    assert [(row.sample_id, row.action) for row in await stores.ledger.ledger(2)] == [
        (second, LedgerAction.UNLEARN),
        (retracting, LedgerAction.UNLEARN),
    ]


async def test_a_refusal_is_recorded_with_its_report_and_quarantines(stores: OpenStores) -> None:
    bad, retracted, waiting = await accepted(stores, 3)
    await stores.ledger.promote(candidate(1, None), NOTHING)
    await stores.samples.request_retraction(retracted)
    refused = replace(candidate(2, 1), metrics={"loss": float("nan"), "steps": [1.0, float("inf")]}, reason="worse")
    change = LedgerChange(learned=(bad, retracted, waiting), emphasis={waiting: 2.5})
    version = await stores.ledger.refuse(refused, change, {bad: "harmful", retracted: "harmful"})
    assert (version.state, version.promoted_at, version.parent) == (VersionState.REFUSED, None, 1)
    assert version.metrics == {"loss": None, "steps": [1.0, None]}
    assert version.gate == refused.gate
    assert version == await stores.ledger.get(2)
    assert await states(stores, [bad, retracted, waiting]) == [
        SampleState.QUARANTINED,
        SampleState.RETRACTED,
        SampleState.QUEUED,
    ]
    live = await stores.ledger.live()
    assert live is not None
    assert live.number == 1
    assert await stores.ledger.ledger(0) == []
    event = (await stores.ledger.events(0, 10))[-1]
    assert event.type == "version_refused"
    assert event.payload["version"] == 2
    assert event.payload["reason"] == "worse"
    assert event.payload["quarantined"] == 1
    kept = {row.sample_id: row for row in await stores.ledger.refused(2)}
    assert set(kept) == {bad, retracted, waiting}
    assert (kept[waiting].action, kept[waiting].emphasis, kept[bad].emphasis) == (RefusedAction.LEARN, 2.5, 1.0)
    assert await stores.ledger.refused_with([bad]) == sorted([retracted, waiting])
    assert await stores.ledger.refused(1) == []
    assert await stores.ledger.refusals_of([waiting]) == [2]
    await stores.ledger.mark_artefacts_gone([2])
    assert await stores.ledger.refusals_of([waiting]) == [2], "one of them is in quarantine, and may be released"
    await stores.samples.request_retraction(bad)
    await stores.ledger.mark_artefacts_gone([2])
    assert not await stores.ledger.refused(2)
    assert not await stores.ledger.refused_with([bad])


async def test_versions_are_paged_newest_first(stores: OpenStores) -> None:
    for number in range(1, 6):
        await stores.ledger.promote(candidate(number, number - 1 or None), NOTHING)
    numbers = [[one.number for one in await stores.ledger.page(before, 2)] for before in (None, 4, 2, 1)]
    assert numbers == [[5, 4], [3, 2], [1], []]


async def test_retention_is_noted(stores: OpenStores) -> None:
    for number in range(1, 4):
        await stores.ledger.promote(candidate(number, number - 1 or None), NOTHING)
    await stores.ledger.mark_artefacts_gone([1, 2, 99])
    await stores.ledger.mark_artefacts_gone([])
    kept = {one.number: one.artefacts_kept for one in await stores.ledger.page(None, 10)}
    assert kept == {3: True, 2: False, 1: False}


async def test_the_ledger_is_read_by_ranges_of_versions(stores: OpenStores) -> None:
    ids = await accepted(stores, 4)
    for number, id in enumerate(ids, start=1):
        await stores.ledger.promote(candidate(number, number - 1 or None), LedgerChange(learned=(id,)))
    assert [row.version for row in await stores.ledger.ledger(1, 3)] == [2, 3]
    assert [row.version for row in await stores.ledger.ledger(2)] == [3, 4]


async def test_the_database_itself_refuses_a_second_live_version(stores: OpenStores) -> None:
    await stores.ledger.promote(candidate(1, None), NOTHING)
    await stores.ledger.promote(candidate(2, 1), NOTHING)
    with pytest.raises(Exception, match=r"(?i)unique"):
        async with stores.engine.begin() as connection:
            await connection.execute(text("UPDATE versions SET state = 'live'"))
    assert await stores.count("versions WHERE state = 'live'") == 1

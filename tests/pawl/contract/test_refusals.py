"""What refused versions would have changed, and what a promotion by hand does with it, on every backend."""

from __future__ import annotations

import pytest

from pawl.domain.errors import CandidateStale
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import LedgerAction, LedgerChange, RefusedAction, VersionKind, has_reweighted
from tests.pawl.contract.backends import OpenStores, candidate
from tests.pawl.contract.test_version_ledger import accepted, states


async def test_a_refused_version_keeps_all_that_it_would_have_changed(stores: OpenStores) -> None:
    new, old, left, overtaken, pulled, read = ids = await accepted(stores, 6)
    change = LedgerChange(
        learned=(new,),
        unlearned={left: "retracted"},
        replaced={old: new},
        dropped={overtaken: new},
        quarantined={pulled: "a flow"},
        kinds={pulled: QuarantineKind.FLOW},
        trained=(read, new),
    )
    await stores.ledger.refuse(candidate(1, None), change, {})
    assert await states(stores, ids) == [SampleState.QUEUED] * 6
    refused = await stores.ledger.refused(1)
    rows = {(row.sample_id, row.action): (row.reason, row.replaced_by, row.kind) for row in refused}
    assert rows == {
        (new, RefusedAction.LEARN): (None, None, None),
        (left, RefusedAction.UNLEARN): ("retracted", None, None),
        (old, RefusedAction.UNLEARN): (None, new, None),
        (overtaken, RefusedAction.DROP): (None, new, None),
        (pulled, RefusedAction.QUARANTINE): ("a flow", None, QuarantineKind.FLOW),
        (read, RefusedAction.ENCODER): (None, None, None),
        (new, RefusedAction.ENCODER): (None, None, None),
    }


async def test_a_forced_version_restores_requeues_and_weighs_again(stores: OpenStores) -> None:
    kept, later, leaving, waiting, held, replaced = ids = await accepted(stores, 6)
    first = LedgerChange(learned=(kept, later, leaving, replaced), emphasis={kept: 3.0})
    await stores.ledger.promote(candidate(1, None), first)
    await stores.ledger.promote(candidate(2, 1), LedgerChange(replaced={replaced: later}))
    await stores.samples.settle(SampleState.QUARANTINED, {held: "harms"})
    await stores.samples.request_retraction(leaving)
    change = LedgerChange(
        restored=(waiting, held, replaced),
        requeued={later: "on top", leaving: "on top"},
        reweighted=(kept,),
        weighed={kept: 1.0, held: 2.0},
    )
    await stores.ledger.promote(candidate(3, 2, VersionKind.ROLLBACK), change)
    learned, queued, retracted = SampleState.LEARNED, SampleState.QUEUED, SampleState.RETRACTED
    assert await states(stores, ids) == [learned, queued, retracted, learned, learned, learned]
    found = {one.id: one for one in await stores.samples.get_many(ids)}
    assert [found[id].emphasis for id in (kept, held, waiting)] == [1.0, 2.0, 1.0]
    assert [found[id].learned_in_version for id in (kept, held)] == [1, 3]
    assert (found[later].reason, found[held].reason) == ("on top", None)
    rows = await stores.ledger.ledger(2)
    unlearned = {row.sample_id for row in rows if row.action is LedgerAction.UNLEARN}
    assert unlearned == {later, leaving, kept}
    assert {row.sample_id for row in rows if row.action is LedgerAction.LEARN} == {waiting, held, replaced, kept}
    assert has_reweighted(rows)
    assert not has_reweighted(await stores.ledger.ledger(0, 2))


async def test_what_its_client_or_a_reviewer_took_out_is_not_restored(stores: OpenStores) -> None:
    retracted, discarded, learned = await accepted(stores, 3)
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(learned,)))
    await stores.samples.request_retraction(retracted)
    await stores.samples.settle(SampleState.REJECTED, {discarded: "discarded"})
    for id in (retracted, discarded, learned, "fb_unknown"):
        with pytest.raises(CandidateStale):
            await stores.ledger.promote(candidate(2, 1), LedgerChange(restored=(id,)))


async def test_a_restored_sample_leaves_its_identity_to_one_that_was_accepted_since(stores: OpenStores) -> None:
    [old] = await stores.samples.accept([NewSample("one", "a")])
    await stores.ledger.promote(candidate(1, None), LedgerChange(learned=(old.id,)))
    [other] = await stores.samples.accept([NewSample("one", "b")])
    change = LedgerChange(learned=(other.id,), replaced={old.id: other.id})
    await stores.ledger.promote(candidate(2, 1), change)
    [again] = await stores.samples.accept([NewSample("one", "a")])
    assert again.is_new
    back = LedgerChange(restored=(old.id,), requeued={other.id: "on top"})
    await stores.ledger.promote(candidate(3, 2), back)
    assert await states(stores, [old.id, other.id, again.id]) == [
        SampleState.LEARNED, SampleState.QUEUED, SampleState.QUEUED,
    ]  # fmt: skip
    [repeat] = await stores.samples.accept([NewSample("one", "a")])
    assert (repeat.id, repeat.is_new) == (again.id, False)

"""The contract of imports, on every backend."""

from __future__ import annotations

from app.core.domain.identifiers import IMPORT_PREFIX, new_identifier
from app.core.domain.imports import Import, NewImport
from app.core.domain.samples import NewSample
from tests.contract.backends import Stores


async def test_an_import_is_stored_with_its_samples(stores: Stores) -> None:
    one = NewImport(new_identifier(IMPORT_PREFIX), "default", "labels.csv", 2, "I know them")
    assert one.id.startswith("im_")
    items = [NewSample("one", "a", import_id=one.id), NewSample("two", "b", import_id=one.id)]
    receipts = await stores.samples.accept(items, imports=[one])
    found = await stores.samples.imports([one.id, "im_no"])
    assert found == {one.id: Import(one.id, "default", "labels.csv", 2, "I know them", stores.clock.now())}
    assert {s.import_id for s in await stores.samples.get_many([r.id for r in receipts])} == {one.id}
    assert await stores.samples.imports([]) == {}


async def test_a_sample_of_feedback_belongs_to_no_import_and_a_repeat_keeps_its_own(stores: Stores) -> None:
    sent = await stores.accept("one", "a")
    second = NewImport(new_identifier(IMPORT_PREFIX), "default", "second.csv", 1)
    [again] = await stores.samples.accept([NewSample("one", "a", import_id=second.id)], imports=[second])
    assert (again.id, again.is_new) == (sent.id, False)
    assert (await stores.samples.get(sent.id)).import_id is None
    assert (await stores.samples.imports([second.id]))[second.id].accept_reason is None

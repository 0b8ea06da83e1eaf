"""What an import says came of it, and its exit code."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest

from app.commands.console.terminal import out
from app.commands.data.outcome import RowOutcomes, StoredRows, Summary, tell
from app.commands.home.stores import open_stores
from pawl.domain.identifiers import IMPORT_PREFIX, new_identifier
from pawl.domain.imports import ImportOutcome, NewImport
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import NewSample, SampleState
from pawl.domain.versions import LedgerChange
from pawl.settings import Settings
from tests.pawl.contract.backends import candidate


def an_import(count: int) -> NewImport:
    return NewImport(new_identifier(IMPORT_PREFIX), "default", "a.csv", count)


async def test_what_was_learned_refused_known_changed_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_stores(Settings(home=tmp_path), migrate=True) as stores:
        held = await stores.samples.accept([NewSample("known and held", "a"), NewSample("changed", "b")])
        await stores.samples.settle(SampleState.QUARANTINED, {held[0].id: "a flow"})
        one = an_import(6)
        items = [
            NewSample(text, label, import_id=one.id)
            for text, label in [
                ("1", "a"),
                ("2", "a"),
                ("3", "b"),
                ("known and held", "a"),
                ("changed", "c"),
                ("6", "b"),
            ]
        ]
        items.append(NewSample("7", "b", import_id=one.id, hold=Hold(QuarantineKind.FLOW, "as before")))
        receipts = await stores.samples.accept(items, imports=[one])
        learned = (receipts[0].id, receipts[4].id)
        change = LedgerChange(learned=learned, dropped={receipts[5].id: "fb_other"})
        await stores.ledger.promote(candidate(1, None), change)
        await stores.samples.settle(SampleState.QUARANTINED, {one.id: "harms: b falls" for one in receipts[1:3]})
        stored = StoredRows("a.csv", [one], 8, items, receipts)
        rows = await RowOutcomes.read(stores, stored)
        summary = Summary(stored, rows, skipped=0)
        assert (stored.new, stored.changed, rows.learned, rows.replaced, rows.kept) == (6, 1, 2, 1, 1)
        assert rows.not_learned == [
            ImportOutcome("default", "a", SampleState.QUARANTINED, "harms: b falls", False, 1),
            ImportOutcome("default", "b", SampleState.QUARANTINED, "harms: b falls", False, 1),
            ImportOutcome("default", "a", SampleState.QUARANTINED, "a flow", False, 1),
        ]
        assert summary.is_partial
        printed = io.StringIO()
        monkeypatch.setattr(out, "file", printed)
        await tell(stores, summary, as_json=False)
        lines = printed.getvalue().splitlines()
        assert lines[0] == (
            "a.csv: 8 rows, 6 new, 1 already known, 1 with another label than before, "
            "1 replaced by a later row with the same text"
        )
        assert lines[1:3] == ["1 stay in quarantine, as in the export", "2 learned, 3 not:"]
        assert "  b: 1 quarantined: harms: b falls" in lines
        assert any("--accept" in line for line in lines)
        told = summary.as_json()
        assert (told["learned"], told["known"], told["kept_in_quarantine"]) == (2, 1, 1)


async def test_an_import_of_which_all_is_learned_is_whole(tmp_path: Path) -> None:
    async with open_stores(Settings(home=tmp_path), migrate=True) as stores:
        one = an_import(2)
        items = [NewSample(text, "a", import_id=one.id) for text in ("1", "2")]
        receipts = await stores.samples.accept(items, imports=[one])
        stored = StoredRows("a.csv", [one], 2, items, receipts)
        assert [one.state for one in (await RowOutcomes.read(stores, stored)).not_learned] == [SampleState.QUEUED]
        await stores.ledger.promote(candidate(1, None), LedgerChange(learned=tuple(r.id for r in receipts)))
        learned = await RowOutcomes.read(stores, stored)
        assert not Summary(stored, learned, skipped=0).is_partial
        assert learned.learned == 2
        again = an_import(2)
        repeated = [replace(item, import_id=again.id) for item in items]
        known = await stores.samples.accept(repeated, imports=[again])
        second = StoredRows("a.csv", [again], 2, repeated, known)
        learned = await RowOutcomes.read(stores, second)
        assert (Summary(second, learned, skipped=0).is_partial, second.new, learned.learned) == (False, 0, 2)

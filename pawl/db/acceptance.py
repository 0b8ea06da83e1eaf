"""Accepts samples into SQL: admits the items, compares them with stored samples and stores them in one transaction."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock
from pawl.db.engine import LockSpace, among, chunked, insert_many, reading, serialise, writing
from pawl.db.imports import add_imports, release_to_imports
from pawl.db.labels import lock_labels
from pawl.db.sample_rows import lock_samples, move_samples
from pawl.db.tables import ACTIVE_STATES_SQL, idempotency_keys
from pawl.db.tables import samples as table
from pawl.db.task_facts import facts_of, is_live
from pawl.db.tasks import known_tasks
from pawl.domain.acceptance import Acceptance, AcceptedItem, ActiveSample, insisted, plan_acceptance, told_of_labels
from pawl.domain.admission import Admission, admit, clean_all
from pawl.domain.errors import IdempotencyConflict
from pawl.domain.forms import Fault
from pawl.domain.imports import NewImport
from pawl.domain.samples import (
    IdempotencyKey,
    LockedSample,
    Move,
    NewSample,
    Receipt,
    SampleState,
    Split,
    digest_text,
)


class AcceptingTable:
    """The part of `SampleStore` that takes samples in."""

    _engine: AsyncEngine
    _clock: Clock
    _heldout_fraction: float
    _idempotency_life: timedelta
    _closed_labels: bool
    _most_bytes: int | None

    async def examine(self, items: Sequence[NewSample]) -> Admission:
        """See `SampleStore.examine`."""
        clean, faults = clean_all(items, self._most_bytes)
        async with reading(self._engine) as connection:
            return await self._admitted(connection, clean, faults)

    async def accept(
        self,
        items: Sequence[NewSample],
        key: IdempotencyKey | None = None,
        imports: Sequence[NewImport] = (),
    ) -> list[Receipt]:
        """See `SampleStore.accept`."""
        clean, faults = clean_all(items, self._most_bytes)
        tasks = _tasks(clean, faults)
        async with writing(self._engine) as connection:
            if key is not None:
                # A client that gave up sends the same key while its first request is still under way: the second waits
                # here for the first one's receipts instead of storing all again.
                await serialise(connection, LockSpace.IDEMPOTENCY_KEY, [key.key])
                if (first := await self._first_receipts(connection, key)) is not None:
                    return first
            # A change of a label waits for those who still accept its old name, and they for it.
            await lock_labels(connection, tasks, shared=True)
            admission = await self._admitted(connection, clean, faults)
            admission.check()
            digests = {(item.task, digest_text(item.text)) for item in clean}
            # From here to the commit nobody else decides about these texts: two submissions make one row.
            await serialise(connection, LockSpace.TEXT, (f"{task} {digest}" for task, digest in digests))
            chosen = {digest for _, digest in digests}
            plan = await self._plan(connection, admission.items, chosen, insisted(imports))
            receipts = told_of_labels(items, admission.items, plan.receipts, admission.warnings)
            await self._store(connection, plan)
            await add_imports(connection, self._clock, imports)
            await release_to_imports(connection, self._clock, plan.released, imports)
            if key is not None:
                await self._remember(connection, key, receipts)
        return receipts

    async def _admitted(
        self, connection: AsyncConnection, clean: Sequence[NewSample], faults: Sequence[Fault]
    ) -> Admission:
        facts = {task: await facts_of(connection, task) for task in _tasks(clean, faults)}
        everyone = all(known.exists(task) for task, known in facts.items())
        tasks = () if everyone else await known_tasks(connection)
        closed = self._closed_labels and await is_live(connection)
        return admit(clean, faults, facts, tasks, closed=closed)

    async def _plan(
        self,
        connection: AsyncConnection,
        items: Sequence[NewSample],
        digests: Collection[str],
        insisting: Collection[str],
    ) -> Acceptance:
        """Plans the acceptance and locks the samples it changes.

        The learner may move one of them between the look and the lock. Then the plan is made anew.
        """
        while True:
            active = await _active(connection, digests)
            before = {row.id: row.state for row in active}
            plan = plan_acceptance(items, active, self._heldout_fraction, insisting)
            settled = {*plan.changed, *plan.leaving, *plan.retracted, *plan.released} & before.keys()
            concerned = {*plan.superseded, *settled} & before.keys()
            now: dict[str, LockedSample] = {}
            # Locked in the order of ids, like every update of many samples: no two of them can deadlock.
            for ids in chunked(sorted(concerned)):
                now |= await lock_samples(connection, ids)
            # Those that are only superseded need no second look: the mark is right in any state. The locks are kept in
            # the next round; it ends, because nobody else can move the samples that are locked by now.
            if all(now[id].state is before[id] for id in settled):
                return plan

    async def _first_receipts(self, connection: AsyncConnection, key: IdempotencyKey) -> list[Receipt] | None:
        expired = self._clock.now() - self._idempotency_life
        # Expired first, then asked: an old key must not answer a new request.
        await connection.execute(delete(idempotency_keys).where(idempotency_keys.c.created_at <= expired))
        query = select(idempotency_keys).where(idempotency_keys.c.key == key.key)
        known = (await connection.execute(query)).one_or_none()
        if known is None:
            return None
        if known.body_digest != key.body_digest:
            raise IdempotencyConflict(key=key.key)
        return [
            Receipt(**receipt | {"state": SampleState(receipt["state"]), "warnings": tuple(receipt["warnings"])})
            for receipt in known.receipts
        ]

    async def _remember(self, connection: AsyncConnection, key: IdempotencyKey, receipts: list[Receipt]) -> None:
        row = {
            "key": key.key,
            "body_digest": key.body_digest,
            "receipts": [asdict(receipt) | {"state": receipt.state.value} for receipt in receipts],
            "created_at": self._clock.now(),
        }
        await connection.execute(insert(idempotency_keys).values(row))

    async def _store(self, connection: AsyncConnection, plan: Acceptance) -> None:
        now = self._clock.now()
        # Before the INSERT: `uq_samples_active` allows one sample of a text and label that is not superseded.
        for ids in chunked(plan.superseded):
            await connection.execute(update(table).where(among(connection, table.c.id, ids)).values(superseded=True))
        for id, sample in plan.changed.items():
            await connection.execute(update(table).where(table.c.id == id).values(**_changed(sample), updated_at=now))
        await insert_many(connection, insert(table), (_row(added, now) for added in plan.added))
        for id, reason in plan.leaving.items():
            marked = update(table).where(table.c.id == id)
            await connection.execute(marked.values(retract_requested=True, reason=reason, updated_at=now))
        moves = {id: Move(SampleState.RETRACTED, reason) for id, reason in plan.retracted.items()}
        await move_samples(connection, moves, now)


def _tasks(items: Sequence[NewSample], faults: Sequence[Fault]) -> list[str]:
    """Returns the tasks of the items without a fault of form, sorted."""
    bad = {fault.index for fault in faults}
    return sorted({item.task for index, item in enumerate(items) if index not in bad})


def _changed(sample: ActiveSample) -> Mapping[str, Any]:
    values: dict[str, Any] = {"weight": sample.weight, "pinned": sample.pinned}
    if sample.state is SampleState.GOLDEN:
        values |= {"state": sample.state.value, "split": Split.GOLDEN.value, "reason": None}
    return values


def _row(added: AcceptedItem, now: datetime) -> dict[str, Any]:
    sample, item = added.sample, added.item
    return {
        "id": sample.id,
        "task": sample.task,
        "text": item.text,
        "text_digest": sample.text_digest,
        "label": sample.label,
        "weight": sample.weight,
        "source": sample.source,
        "origin": item.origin.value,
        "prediction_id": item.prediction_id,
        "served_version": item.served_version,
        "served_label": item.served_label,
        "served_by": item.served_by,
        "split": added.split.value,
        "pinned": sample.pinned,
        "import_id": item.import_id,
        "emphasis": item.emphasis,
        "reason": item.hold.reason if item.hold else None,
        "quarantined_by": item.hold.kind.value if item.hold else None,
        "state": sample.state.value,
        "retract_requested": False,
        "superseded": sample.superseded,
        "created_at": now,
        "updated_at": now,
    }


async def _active(connection: AsyncConnection, digests: Collection[str]) -> list[ActiveSample]:
    columns = (table.c.id, table.c.task, table.c.text_digest, table.c.label, table.c.state)
    rest = (table.c.retract_requested, table.c.superseded, table.c.weight, table.c.pinned, table.c.source)
    rows: list[Row[*tuple[Any, ...]]] = []
    for chunk in chunked(digests):
        query = select(table.c.seq, *columns, *rest)
        query = query.where(among(connection, table.c.text_digest, chunk), table.c.state.in_(ACTIVE_STATES_SQL))
        rows += await connection.execute(query)
    rows.sort(key=lambda row: int(row.seq))
    return [
        ActiveSample(id, task, digest, label, SampleState(state), *rest)
        for _, id, task, digest, label, state, *rest in rows
    ]

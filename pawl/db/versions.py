"""The lineage in SQL. A promotion is one transaction and a compare-and-swap on the live version."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import Row, func, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from pawl.clock import Clock, SystemClock
from pawl.db.encoder_requests import EncoderRequestTable
from pawl.db.engine import among, chunked, insert_many, reading, writing
from pawl.db.events import EventTable, add_events
from pawl.db.labels import apply_label_change, lock_labels
from pawl.db.leases import LeaseTable
from pawl.db.refusals import RefusalTable, forget_refused, keep_refused
from pawl.db.restoration import restore_replaced
from pawl.db.sample_rows import keep_doubts, lock_samples, move_samples, yield_identities
from pawl.db.tables import ledger, samples, versions
from pawl.domain.errors import CandidateStale, ParentNotLive, VersionNotFound
from pawl.domain.promotion import (
    Promotion,
    named_samples,
    plan_promotion,
    promotion_events,
    refusal_events,
)
from pawl.domain.quarantine import QuarantineKind
from pawl.domain.samples import LockedSample, Move, SampleState
from pawl.domain.versions import (
    HeadInfo,
    LedgerAction,
    LedgerChange,
    LedgerRow,
    NewVersion,
    Version,
    VersionKind,
    VersionState,
    refused_rows,
)
from pawl.json_values import Json

_SELECT = select(*(versions.c[field.name] for field in fields(Version))).order_by(versions.c.number.desc())


class SqlVersionLedger(EventTable, LeaseTable, EncoderRequestTable, RefusalTable):
    """`VersionLedger` on SQLite or PostgreSQL."""

    def __init__(self, engine: AsyncEngine, clock: Clock | None = None) -> None:
        super().__init__(engine, clock or SystemClock())

    async def live(self) -> Version | None:
        """See `VersionLedger.live`."""
        async with reading(self._engine) as connection:
            live = await _select(connection, versions.c.state == VersionState.LIVE.value)
        return live[0] if live else None

    async def get(self, number: int) -> Version:
        """See `VersionLedger.get`."""
        async with reading(self._engine) as connection:
            matches = await _select(connection, versions.c.number == number)
        if not matches:
            raise VersionNotFound(number=number)
        return matches[0]

    async def page(self, before: int | None, limit: int) -> list[Version]:
        """See `VersionLedger.page`."""
        older = [] if before is None else [versions.c.number < before]
        async with reading(self._engine) as connection:
            return await _select(connection, *older, limit=limit)

    async def next_number(self) -> int:
        """See `VersionLedger.next_number`."""
        # Not reserved: of two that take the same number, the second one's INSERT fails on the primary key (`_taken`).
        async with reading(self._engine) as connection:
            return (await connection.scalar(select(func.max(versions.c.number))) or 0) + 1

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        """See `VersionLedger.promote`."""
        try:
            async with writing(self._engine) as connection:
                if change.label is not None:  # before any row is locked, as in every transaction that takes both
                    await lock_labels(connection, [change.label.task])
                # The compare-and-swap comes before the samples are locked: the slower of two learners waits on this row
                # alone, and keeps no acceptance waiting for rows of a promotion that will be refused.
                await self._take_over(connection, version)
                locked: dict[str, LockedSample] = {}
                for ids in chunked(named_samples(change)):
                    locked |= await lock_samples(connection, ids)
                plan = plan_promotion(version, change, locked)
                await self._insert(connection, version, VersionState.LIVE)
                # Before the states change: `uq_samples_active` is checked with each statement, not at the commit.
                await yield_identities(connection, change.restored)
                await self._apply(connection, version.number, plan)
                if change.back_to is not None:
                    # After `_apply`: it looks at the states that the quarantine has left.
                    await restore_replaced(connection, version, change, self._clock.now())
                if change.label is not None:
                    await apply_label_change(connection, change.label, version.number, self._clock.now())
                # Last: its lock makes every other writer of events wait for this commit.
                await add_events(connection, self._clock, promotion_events(version, change))
                return (await _select(connection, versions.c.number == version.number))[0]
        except IntegrityError as error:
            raise _taken(version) from error

    async def refuse(self, version: NewVersion, change: LedgerChange, harmful: Mapping[str, str]) -> Version:
        """See `VersionLedger.refuse`. Samples that are not queued any more are left as they are."""
        now = self._clock.now()
        try:
            async with writing(self._engine) as connection:
                await self._insert(connection, version, VersionState.REFUSED)
                # Kept as the value it would have had: a version that is forced later is to be exactly what was refused,
                # whatever the samples weigh by then.
                before: dict[str, float] = {}
                for ids in chunked(change.learned):
                    query = select(samples.c.id, samples.c.emphasis).where(among(connection, samples.c.id, ids))
                    rows = await connection.execute(query)
                    before |= {row.id: row.emphasis for row in rows}
                await keep_refused(connection, refused_rows(version.number, change, before))
                moves: dict[str, Move] = {}
                for ids in chunked(sorted(harmful)):
                    for id, sample in (await lock_samples(connection, ids)).items():
                        # Retracted, replaced or learned while the gate measured: that decision is newer than this one.
                        if sample.state is SampleState.QUEUED:
                            moves[id] = Move(SampleState.QUARANTINED, harmful[id], QuarantineKind.GATE)
                await move_samples(connection, moves, now)
                await keep_doubts(connection, {id: change.doubts[id] for id in moves if id in change.doubts})
                await add_events(connection, self._clock, refusal_events(version, len(moves)))
                return (await _select(connection, versions.c.number == version.number))[0]
        except IntegrityError as error:
            raise _taken(version) from error

    async def _take_over(self, connection: AsyncConnection, version: NewVersion) -> None:
        """Retires the parent, which must be live. Of two transactions that try, the second waits and finds it gone."""
        live = versions.c.state == VersionState.LIVE.value
        if version.parent is not None:
            parent = update(versions).where(live, versions.c.number == version.parent)
            if (await connection.execute(parent.values(state=VersionState.RETIRED.value))).rowcount == 1:
                return
        # For a first version there is no row to wait on; of two at once `uq_versions_live` refuses the second
        # (`_taken`).
        number = await connection.scalar(select(versions.c.number).where(live))
        if version.parent is not None or number is not None:
            raise ParentNotLive(parent=version.parent, live=number)

    async def _insert(self, connection: AsyncConnection, version: NewVersion, state: VersionState) -> None:
        now = self._clock.now()
        row: Json = {field.name: getattr(version, field.name) for field in fields(version)}
        row.update(
            kind=version.kind.value,
            state=state.value,
            heads={task: asdict(head) for task, head in version.heads.items()},
            created_at=now,
            promoted_at=now if state is VersionState.LIVE else None,
            artefacts_kept=True,
        )
        await connection.execute(insert(versions).values(row))

    async def _apply(self, connection: AsyncConnection, number: int, plan: Promotion) -> None:
        now = self._clock.now()
        for ids in chunked(plan.learned):
            learned = update(samples).where(among(connection, samples.c.id, ids))
            await connection.execute(
                learned.values(
                    state=SampleState.LEARNED.value,
                    reason=None,
                    replaced_by=None,
                    learned_in_version=number,
                    updated_at=now,
                )
            )
        for id, emphasis in plan.emphasis.items():  # of one learning step, and few of it
            # A factor: the learner measured it on top of what the sample weighs already (an import may bring an
            # emphasis).
            more = samples.c.emphasis * emphasis
            await connection.execute(update(samples).where(samples.c.id == id).values(emphasis=more))
        for id, emphasis in plan.weighed.items():
            await connection.execute(update(samples).where(samples.c.id == id).values(emphasis=emphasis))
        await move_samples(connection, plan.moves, now)
        await keep_doubts(connection, plan.doubts)
        rows = (asdict(row) | {"action": row.action.value} for row in plan.rows)
        await insert_many(connection, insert(ledger), rows)

    async def ledger(self, after_version: int, up_to_version: int | None = None) -> list[LedgerRow]:
        """See `VersionLedger.ledger`."""
        query = select(ledger.c.version, ledger.c.sample_id, ledger.c.action).where(ledger.c.version > after_version)
        if up_to_version is not None:
            query = query.where(ledger.c.version <= up_to_version)
        async with reading(self._engine) as connection:
            # The order within a version counts: one that is weighed anew has an `unlearn` row and then a `learn` row.
            rows = await connection.execute(query.order_by(ledger.c.version, ledger.c.id))
            return [LedgerRow(version, sample_id, LedgerAction(action)) for version, sample_id, action in rows]

    async def mark_artefacts_gone(self, numbers: Sequence[int]) -> None:
        """See `VersionLedger.mark_artefacts_gone`."""
        async with writing(self._engine) as connection:
            for chunk in chunked(numbers):
                marked = update(versions).where(versions.c.number.in_(chunk))
                await connection.execute(marked.values(artefacts_kept=False))
            await forget_refused(connection)

    async def ping(self) -> None:
        """See `VersionLedger.ping`."""
        async with reading(self._engine) as connection:
            await connection.execute(select(1))


def _taken(version: NewVersion) -> CandidateStale:
    """The error when another transaction took this number, or made the first version, meanwhile."""
    problem = f"number {version.number} or the place of the live version was taken meanwhile"
    return CandidateStale(parent=version.parent, live=None, problem=problem)


async def _select(connection: AsyncConnection, *conditions: Any, limit: int | None = None) -> list[Version]:
    rows = await connection.execute(_SELECT.where(*conditions).limit(limit))
    return [_version(row) for row in rows]


def _version(row: Row[*tuple[Any, ...]]) -> Version:
    values = dict(row._mapping)  # noqa: SLF001  # SQLAlchemy's documented name for it
    heads = {task: HeadInfo.from_json(head) for task, head in row.heads.items()}
    values.update(kind=VersionKind(row.kind), state=VersionState(row.state), heads=heads)
    return Version(**values)

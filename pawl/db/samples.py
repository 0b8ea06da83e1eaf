"""Samples in SQL: accepted once, read by the learner, retracted by clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, func, select, true, update
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.clock import Clock, SystemClock
from pawl.db.dead_letters import DeadLetterTable
from pawl.db.embeddings import EmbeddingTable
from pawl.db.engine import among, chunked, reading, writing
from pawl.db.exporting import ExportTable
from pawl.db.first_version import FirstVersionTable
from pawl.db.imports import ImportTable
from pawl.db.quarantine import QuarantineTable
from pawl.db.sample_rows import lock_samples, move_samples, select_samples
from pawl.db.tables import KEPT, QUEUED, RETRACTION_PENDING, ledger
from pawl.db.tables import samples as table
from pawl.db.tasks import tasks_with
from pawl.domain.errors import SampleNotFound
from pawl.domain.samples import Backlog, Move, Sample, SampleState, Split
from pawl.domain.versions import LedgerAction
from pawl.settings import Settings

# Of the oldest samples, which show the fraction they were split at; a start must not read millions.
SPLITS_LOOKED_AT = 5000
RETRACTED_BY_CLIENT = "retracted by the client"
SETTLED_STATES = frozenset({SampleState.REJECTED, SampleState.DEAD, SampleState.QUARANTINED, SampleState.RETRACTED})


class SqlSampleStore(DeadLetterTable, FirstVersionTable, ExportTable, EmbeddingTable, QuarantineTable, ImportTable):
    """`SampleStore` on SQLite or PostgreSQL.

    Args:
        engine: From `connect`.
        clock: Gives the times of rows; the machine's by default.
        heldout_fraction: Share of texts that no encoder is trained on.
        idempotency_hours: How long an Idempotency-Key is remembered.
        closed_labels: Whether new labels are refused once there is a version.
        most_bytes: Length of the longest text, in bytes of UTF-8.
    """

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Clock | None = None,
        *,
        heldout_fraction: float = 0.1,
        idempotency_hours: float = 24.0,
        closed_labels: bool = False,
        most_bytes: int | None = None,
    ) -> None:
        super().__init__(engine)
        self._clock = clock or SystemClock()
        self._closed_labels = closed_labels
        self._most_bytes = most_bytes
        self._heldout_fraction = heldout_fraction
        self._idempotency_life = timedelta(hours=idempotency_hours)

    @classmethod
    def of(cls, engine: AsyncEngine, settings: Settings, clock: Clock | None = None) -> SqlSampleStore:
        """The store that the settings ask for."""
        return cls(
            engine,
            clock,
            heldout_fraction=settings.heldout_fraction,
            idempotency_hours=settings.idempotency_retention_hours,
            closed_labels=settings.closed_labels,
            most_bytes=settings.max_body_bytes,
        )

    async def get(self, sample_id: str) -> Sample:
        """See `SampleStore.get`."""
        samples = await self.get_many([sample_id])
        if not samples:
            raise SampleNotFound(sample_id=sample_id)
        return samples[0]

    async def get_many(self, sample_ids: Sequence[str]) -> list[Sample]:
        """See `SampleStore.get_many`."""
        samples: list[Sample] = []
        async with reading(self._engine) as connection:
            for ids in chunked(dict.fromkeys(sample_ids)):
                samples += await select_samples(connection, among(connection, table.c.id, ids))
        return sorted(samples, key=lambda sample: sample.seq)

    async def queued(self, limit: int, older_than: datetime | None = None) -> list[Sample]:
        """See `SampleStore.queued`. `older_than` compares the acceptance or the request to retract."""
        samples: list[Sample] = []
        old = table.c.updated_at < older_than if older_than is not None else true()
        async with reading(self._engine) as connection:
            # One query for each: each condition is that of a partial index.
            for waiting in (QUEUED, RETRACTION_PENDING):
                samples += await select_samples(connection, waiting, old, limit=limit)
        return sorted(samples, key=lambda sample: sample.seq)[:limit]

    async def backlog(self) -> Backlog:
        """See `SampleStore.backlog`."""
        oldest = select(table.c.created_at).where(QUEUED).order_by(table.c.seq).limit(1)
        async with reading(self._engine) as connection:
            length = await connection.scalar(select(func.count()).select_from(table).where(QUEUED))
            return Backlog(length or 0, await connection.scalar(oldest))

    async def rivals(self, samples: Sequence[Sample]) -> list[Sample]:
        """See `SampleStore.rivals`."""
        texts = {(sample.task, sample.text_digest) for sample in samples}
        asked = {sample.id for sample in samples}
        states = (SampleState.QUEUED.value, SampleState.LEARNED.value)
        rivals: list[Sample] = []
        async with reading(self._engine) as connection:
            for digests in chunked({sample.text_digest for sample in samples}):
                rivals += await select_samples(
                    connection, among(connection, table.c.text_digest, digests), table.c.state.in_(states)
                )
        # The index is asked for digests alone: the same text in another task is no rival.
        rivals = [sample for sample in rivals if (sample.task, sample.text_digest) in texts and sample.id not in asked]
        return sorted(rivals, key=lambda sample: sample.seq)

    async def settle(self, state: SampleState, reasons: Mapping[str, str]) -> int:
        """See `SampleStore.settle`. Raises `ValueError` for a state that only acceptance or a version can give."""
        if state not in SETTLED_STATES:
            raise ValueError(f"a sample cannot be settled as {state.value}")
        return await self._move_queued({id: Move(state, reason) for id, reason in reasons.items()})

    async def settle_replaced(self, newer: Mapping[str, str]) -> int:
        """See `SampleStore.settle_replaced`."""
        return await self._move_queued({id: Move.replaced(newer_id) for id, newer_id in newer.items()})

    async def _move_queued(self, moves: Mapping[str, Move]) -> int:
        moved = 0
        async with writing(self._engine) as connection:
            for ids in chunked(sorted(moves)):
                locked = await lock_samples(connection, ids)
                # The state under the lock decides: what was learned or retracted since the caller looked stays so.
                queued = {id: moves[id] for id, sample in locked.items() if sample.state is SampleState.QUEUED}
                await move_samples(connection, queued, self._clock.now())
                moved += len(queued)
        return moved

    async def request_retraction(self, sample_id: str) -> Sample:
        """See `SampleStore.request_retraction`. A golden sample is retracted at once, too."""
        async with writing(self._engine) as connection:
            # Locked first: a promotion between a look and an update could leave the request unnoticed.
            if not await lock_samples(connection, [sample_id]):
                raise SampleNotFound(sample_id=sample_id)
            [sample] = await select_samples(connection, table.c.id == sample_id)
            now = self._clock.now()
            if sample.state is SampleState.LEARNED:
                mark = update(table).where(table.c.id == sample_id, table.c.retract_requested.is_(False))
                await connection.execute(mark.values(retract_requested=True, updated_at=now))
            elif sample.can_come_back:
                await move_samples(connection, {sample_id: Move(SampleState.RETRACTED, RETRACTED_BY_CLIENT)}, now)
            return (await select_samples(connection, table.c.id == sample_id))[0]

    async def split_bounds(self) -> tuple[str | None, str | None]:
        """See `SampleStore.split_bounds`."""
        oldest = select(table.c.split, table.c.text_digest).order_by(table.c.seq).limit(SPLITS_LOOKED_AT).subquery()
        bounds = [
            select(which(oldest.c.text_digest)).where(oldest.c.split == split.value).scalar_subquery()
            for which, split in ((func.max, Split.HELDOUT), (func.min, Split.TRAIN))
        ]
        async with reading(self._engine) as connection:
            largest, smallest = (await connection.execute(select(*bounds))).one()
        return largest, smallest

    async def label_counts(self, task: str) -> dict[str, int]:
        """See `SampleStore.label_counts`."""
        query = select(table.c.label, func.count()).where(*_in(task, SampleState.LEARNED)).group_by(table.c.label)
        async with reading(self._engine) as connection:
            return dict((await connection.execute(query)).all())

    async def tasks(self) -> list[str]:
        """See `SampleStore.tasks`."""
        async with reading(self._engine) as connection:
            return await tasks_with(connection, (SampleState.LEARNED.value, SampleState.QUEUED.value))

    async def learned(self, task: str, after_seq: int = 0, limit: int = 10_000) -> list[Sample]:
        """See `SampleStore.learned`."""
        async with reading(self._engine) as connection:
            return await select_samples(
                connection, *_in(task, SampleState.LEARNED), table.c.seq > after_seq, limit=limit
            )

    async def learned_with_label(self, task: str, label: str, limit: int, after_seq: int = 0) -> list[Sample]:
        """See `SampleStore.learned_with_label`."""
        wanted = (*_in(task, SampleState.LEARNED), table.c.label == label, table.c.seq > after_seq)
        async with reading(self._engine) as connection:
            return await select_samples(connection, *wanted, limit=limit)

    async def golden(self, task: str, limit: int) -> list[Sample]:
        """See `SampleStore.golden`."""
        async with reading(self._engine) as connection:
            return await select_samples(connection, *_in(task, SampleState.GOLDEN), limit=limit)

    async def kept_digests(self, task: str, limit: int) -> list[str]:
        """See `SampleStore.kept_digests`."""
        query = select(table.c.text_digest).where(table.c.task == task, KEPT).distinct().limit(limit)
        async with reading(self._engine) as connection:
            return list(await connection.scalars(query))

    async def versions_trained_on(self, sample_id: str) -> list[int]:
        """See `SampleStore.versions_trained_on`."""
        trained = (ledger.c.sample_id == sample_id, ledger.c.action == LedgerAction.ENCODER.value)
        async with reading(self._engine) as connection:
            return list(await connection.scalars(select(ledger.c.version).where(*trained).order_by(ledger.c.version)))


def _in(task: str, state: SampleState) -> tuple[ColumnElement[bool], ...]:
    return table.c.task == task, table.c.state == state.value

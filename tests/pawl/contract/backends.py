"""The backends that every contract test runs on, each checked to be what its name says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import ANSWER_SECONDS, connect
from pawl.db.labels import SqlLabelStore
from pawl.db.predictions import SqlPredictionLog
from pawl.db.samples import SqlSampleStore
from pawl.db.versions import SqlVersionLedger
from pawl.domain.samples import NewSample, Receipt
from pawl.domain.versions import HeadInfo, LedgerChange, LexicalInfo, NewVersion, VersionKind
from pawl.ports import LabelStore, PredictionLog, SampleStore, VersionLedger


@dataclass(slots=True)
class ManualClock:
    """Stands still until it is moved."""

    moment: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def advance(self, **duration: float) -> None:
        self.moment += timedelta(**duration)


@dataclass(slots=True)
class OpenStores:
    """The stores over one database."""

    samples: SampleStore
    predictions: PredictionLog
    ledger: VersionLedger
    labels: LabelStore
    clock: ManualClock
    engine: AsyncEngine

    async def accept(self, text: str, label: str, **fields: Any) -> Receipt:
        """One item."""
        return (await self.samples.accept([NewSample(text, label, **{"create_task": True} | fields)]))[0]

    async def learn(self, *receipts: Receipt) -> int:
        """Promotes a version that learned these; returns its number."""
        number, live = await self.ledger.next_number(), await self.ledger.live()
        learned = tuple(receipt.id for receipt in receipts)
        await self.ledger.promote(candidate(number, live.number if live else None), LedgerChange(learned=learned))
        return number

    async def count(self, table: str) -> int:
        """Rows of a table, counted in the database itself."""
        async with self.engine.connect() as connection:
            return int(await connection.scalar(text(f"SELECT count(*) FROM {table}")))  # noqa: S608  # our own name


@asynccontextmanager
async def sql_stores(url: str, answer_seconds: float = ANSWER_SECONDS) -> AsyncIterator[OpenStores]:
    """OpenStores over a migrated database; asserts that the dialect and the server are the URL's."""
    engine, clock = connect(url, answer_seconds), ManualClock()
    try:
        async with engine.connect() as connection:
            if url.startswith("sqlite"):
                assert engine.dialect.name == "sqlite"
                for pragma, value in (("journal_mode", "wal"), ("synchronous", 2), ("foreign_keys", 1)):
                    assert await connection.scalar(text(f"PRAGMA {pragma}")) == value
            else:
                assert str(await connection.scalar(text("SELECT version()"))).startswith("PostgreSQL")
        yield OpenStores(
            SqlSampleStore(engine, clock),
            SqlPredictionLog(engine),
            SqlVersionLedger(engine, clock),
            SqlLabelStore(engine, clock),
            clock,
            engine,
        )
    finally:
        await engine.dispose()


def candidate(number: int, parent: int | None, kind: VersionKind = VersionKind.HEAD) -> NewVersion:
    """A version with every field set."""
    return NewVersion(
        number=number,
        parent=parent,
        kind=kind,
        trigger="feedback",
        encoder_digest="e" * 64,
        heads={
            "default": HeadInfo("d" * 64, ("card", "refund"), 1.25),
            "mood": HeadInfo("f" * 64, ("good",), 1.0, LexicalInfo("a" * 64, 4096, 0.2, 0.3, 0.7, 0.3, 0.5, 0.4, 0.0)),
        },
        manifest_digest="m" * 64,
        size_bytes=2**33,
        samples_new=3,
        samples_replayed=2,
        watermark=7,
        metrics={"accuracy": 0.875},
        gate={"passed": True, "classes": [{"label": "card", "drop": 0.0}]},
        promoted_by="worker",
        reason="because",
    )

"""A learner that knows the intents of `tests/banking.py`, and imports to give it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.engine import connect
from pawl.db.migrate import upgrade
from pawl.domain.identifiers import IMPORT_PREFIX, new_identifier
from pawl.domain.imports import NewImport
from pawl.domain.samples import NewSample, Origin, Sample, SampleState
from pawl.domain.versions import Version, VersionState
from tests.banking import KNOWN, rows
from tests.intents import Labelled
from tests.learners import Learner, new_learner
from tests.processes import Installation, Installer
from tests.worker.lives import Lived
from worker.assembly import open_learner

EACH = 33
"""Texts of each known intent in version 1."""


@dataclass(slots=True)
class Bank(Lived):
    """A learner after version 1."""

    async def import_rows(self, pairs: Sequence[Labelled], accept_reason: str | None = None) -> list[str]:
        """Queues an import; the ids of its samples."""
        import_id = new_identifier(IMPORT_PREFIX)
        items = [NewSample(text, label, origin=Origin.IMPORT, import_id=import_id) for text, label in pairs]
        new = NewImport(import_id, "default", "rows.csv", len(items), accept_reason)
        return [receipt.id for receipt in await self.learner.samples.accept(items, imports=[new])]

    async def fates(self, ids: Sequence[str]) -> dict[str, Counter[str]]:
        """State -> how many of each label."""
        found: dict[str, Counter[str]] = {}
        for sample in await self.learner.samples.get_many(ids):
            found.setdefault(sample.state.value, Counter())[sample.label] += 1
        return found

    async def get(self, ids: Sequence[str], state: SampleState) -> list[Sample]:
        return [sample for sample in await self.learner.samples.get_many(ids) if sample.state is state]

    async def versions(self, state: VersionState | None = None) -> list[Version]:
        """Oldest first."""
        found = await self.learner.ledger.page(None, 1000)
        return [one for one in reversed(found) if state is None or one.state is state]


@asynccontextmanager
async def bank(install: Installer, **settings: Any) -> AsyncIterator[Bank]:
    """A bank whose intents were learned in one import."""
    pawl: Installation = install.empty(random_features=512, **settings)
    engine: AsyncEngine = connect(pawl.settings.sql_url)
    try:
        await upgrade(engine)
        learner: Learner = new_learner(pawl.settings, engine)
        pairs = rows(list(KNOWN), EACH)
        await learner.samples.accept([NewSample(text, label, origin=Origin.IMPORT) for text, label in pairs])
        async with open_learner(pawl.settings) as loop:
            await loop.drain(_ignore)
        await learner.runner.catch_up()
        yield Bank(pawl, engine, learner)
    finally:
        await engine.dispose()


async def _ignore(left: int) -> None:
    """Progress nobody looks at."""

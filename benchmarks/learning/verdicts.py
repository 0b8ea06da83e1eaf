"""A ledger that writes down what the gate said of each candidate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncEngine

from pawl.db.versions import SqlVersionLedger
from pawl.domain.versions import LedgerChange, NewVersion, Version, VersionKind


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate said of one candidate, and the samples that candidate would have added."""

    accepted: bool
    adds: tuple[str, ...]


class WatchedLedger(SqlVersionLedger):
    """A ledger that writes down which candidates were judged, and how."""

    def __init__(self, database: AsyncEngine) -> None:
        super().__init__(database)
        self.verdicts: list[Verdict] = []

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        """See `VersionLedger.promote`."""
        promoted = await super().promote(version, change)
        if version.kind is not VersionKind.ROLLBACK:  # no gate has judged it
            self.verdicts.append(Verdict(accepted=True, adds=tuple(change.learned)))
        return promoted

    async def refuse(self, version: NewVersion, change: LedgerChange, harmful: Mapping[str, str]) -> Version:
        """See `VersionLedger.refuse`."""
        self.verdicts.append(Verdict(accepted=False, adds=tuple(change.learned)))
        return await super().refuse(version, change, harmful)

"""The lineage (SQL)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from pawl.domain.learner import LearnerStatus
from pawl.domain.versions import Event, LedgerChange, LedgerRow, NewVersion, RefusedRow, Version
from pawl.json_values import Json
from pawl.ports.encoders import EncoderRequests


class VersionLedger(EncoderRequests, Protocol):
    """The lineage: versions, what each learned, events, and the learner's lease (SQL)."""

    async def live(self) -> Version | None:
        """The live version."""

    async def get(self, number: int) -> Version:
        """One version; raises `VersionNotFound`."""

    async def page(self, before: int | None, limit: int) -> list[Version]:
        """Versions newest first, numbers below `before`."""

    async def next_number(self) -> int:
        """The number the next candidate takes: one more than any ever used."""

    async def promote(self, version: NewVersion, change: LedgerChange) -> Version:
        """Makes a candidate live: version row, ledger rows, sample states and event in one transaction.

        Raises `ParentNotLive` when `version.parent` is not the live version any more, or when a sample in the change
        is no longer in the state the change starts from; then nothing was written.
        """

    async def refuse(self, version: NewVersion, change: LedgerChange, harmful: Mapping[str, str]) -> Version:
        """Records a candidate that the gate refused, with its report and with what it would have changed.

        Of that nothing is carried out; those of the queued samples that are `harmful` (id -> why) are quarantined.
        """

    async def refused(self, number: int) -> list[RefusedRow]:
        """What a refused version would have changed; nothing for any other one."""

    async def refusals_of(self, sample_ids: Sequence[str]) -> list[int]:
        """The refused versions that would have learned any of these samples, as far as they are remembered."""

    async def refused_with(self, sample_ids: Sequence[str]) -> list[str]:
        """The samples that any refused version would have learned together with one of these, without these."""

    async def ledger(self, after_version: int, up_to_version: int | None = None) -> list[LedgerRow]:
        """Ledger rows of versions in (after, up_to], in the order they were written."""

    async def mark_artefacts_gone(self, numbers: Sequence[int]) -> None:
        """Notes that retention removed these versions' files. What refused ones would have changed
        goes with them, once none of it is in quarantine.
        """

    async def append_event(self, type: str, payload: Json) -> Event:
        """Writes one event."""

    async def events(self, after_id: int, limit: int) -> list[Event]:
        """Events with a larger id, oldest first."""

    async def last_event_id(self) -> int:
        """The newest event's id, 0 if there is none."""

    async def expire_events(self, keep: int) -> int:
        """Removes all but the newest `keep`; returns how many went."""

    async def acquire_lease(self, holder: str, seconds: float, state: str, details: Json) -> bool:
        """Takes or renews the learner's lease and writes its heartbeat; false while another holder's is valid."""

    async def release_lease(self, holder: str) -> None:
        """Gives the lease back at once."""

    async def learner_status(self) -> LearnerStatus | None:
        """The last heartbeat; None if there never was one."""

    async def ping(self) -> None:
        """Raises `StoreUnavailable` when the database cannot be reached."""

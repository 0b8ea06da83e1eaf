"""The part of the sample store that knows which samples came together (SQL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from pawl.domain.imports import Import, ImportOutcome
from pawl.domain.samples import Sample, SampleState


class ImportStore(Protocol):
    """Imports. `SampleStore.accept` writes them, in the transaction of their samples."""

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """The imports that exist, by id."""

    async def waiting(self, import_ids: Sequence[str], sample_ids: Sequence[str]) -> int:
        """How many of the samples of these imports, and of these samples, are still queued."""

    async def outcomes(self, import_ids: Sequence[str]) -> list[ImportOutcome]:
        """What became of the samples of these imports, by task, label, state and reason."""

    async def of_import(self, import_id: str, state: SampleState, limit: int, after_seq: int = 0) -> list[Sample]:
        """A page of the samples that an import brought and that are in a state, by `seq`."""

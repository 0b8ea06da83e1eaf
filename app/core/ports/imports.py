"""The part of the sample store that knows which samples came together (SQL)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from app.core.domain.imports import Import


class ImportStore(Protocol):
    """Imports. `SampleStore.accept` writes them, in the transaction of their samples."""

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """The imports that exist, by id."""

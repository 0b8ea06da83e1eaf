"""The in-memory twin of the imports in SQL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from app.core.domain.imports import Import

if TYPE_CHECKING:
    from app.core.db.memory import MemoryDatabase


class MemoryImports:
    """The part of `SampleStore` that keeps imports."""

    _database: MemoryDatabase

    async def imports(self, import_ids: Sequence[str]) -> dict[str, Import]:
        """See `ImportStore.imports`."""
        known = self._database.imports
        return {id: known[id] for id in import_ids if id in known}

"""Migrates a database's schema, and checks that it is the one that this code needs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection
from sqlalchemy.ext.asyncio import AsyncEngine

import migrations
from pawl.db.engine import LockSpace, reading, serialise, writing
from pawl.deadlines import each_answer_within
from pawl.domain.errors import SchemaMismatch

_MIGRATION_SECONDS = 600.0
"""For one statement: a large table may be rewritten, or another process migrates."""


def alembic_config(connection: Connection | None = None) -> Config:
    """Alembic's configuration, found beside the installed `migrations` package; there is no `alembic.ini`."""
    config = Config(attributes={} if connection is None else {"connection": connection})
    [folder] = migrations.__path__
    # ConfigParser interpolates `%`, which a path may hold.
    config.set_main_option("script_location", str(Path(folder)).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config


async def upgrade(engine: AsyncEngine) -> None:
    """Migrates to the newest schema, in one transaction; of two processes that try at once, one waits.

    Raises `StoreUnavailable` when the database cannot be reached, `SchemaMismatch` when its schema is newer than this
    code.
    """
    async with reading(engine) as connection:  # in the time of any other answer: a start does not hang
        if await connection.run_sync(_current) == _scripts().get_current_head():
            return
    with each_answer_within(_MIGRATION_SECONDS):
        async with writing(engine) as connection:
            # Alembic reads the revision again behind the lock: who waited finds the schema migrated and does nothing.
            await serialise(connection, LockSpace.MIGRATION, ["schema"])
            try:
                await connection.run_sync(lambda sync: command.upgrade(alembic_config(sync), "head"))
            except CommandError as error:
                raise _mismatch(await connection.run_sync(_current)) from error


@dataclass(frozen=True, slots=True)
class SchemaPlan:
    """The migrations from one schema to another. `current` is None for a database without Pawl's tables.

    steps  (revision, what it does), in the order in which they run; when `is_back` they are undone.
    """

    current: str | None
    target: str
    steps: list[tuple[str, str]]
    is_back: bool = False


async def plan_migration(engine: AsyncEngine, target: str | None = None) -> SchemaPlan:
    """What `migrate` would do. Raises `SchemaMismatch` for a schema or a target that this Pawl does not know."""
    async with reading(engine) as connection:
        current = await connection.run_sync(_current)
    known = [script.revision for script in _scripts().walk_revisions()][::-1]
    if current is not None and current not in known:
        raise _mismatch(current)
    wanted = target or known[-1]
    if wanted not in known:
        raise SchemaMismatch(problem=f"there is no schema {wanted!r}; this Pawl knows {', '.join(known)}.")
    here, there = (known.index(current) if current is not None else -1), known.index(wanted)
    moved = known[here + 1 : there + 1] if there >= here else known[there + 1 : here + 1][::-1]
    steps = [(name, (_scripts().get_revision(name).doc or "").strip()) for name in moved]
    return SchemaPlan(current, wanted, steps, is_back=there < here)


async def migrate(engine: AsyncEngine, plan: SchemaPlan) -> None:
    """Runs a plan in one transaction. Raises `StoreUnavailable`."""
    move = command.downgrade if plan.is_back else command.upgrade
    with each_answer_within(_MIGRATION_SECONDS):
        async with writing(engine) as connection:
            await serialise(connection, LockSpace.MIGRATION, ["schema"])
            await connection.run_sync(lambda sync: move(alembic_config(sync), plan.target))


async def check_current(engine: AsyncEngine) -> None:
    """Raises `SchemaMismatch`, saying what to do, unless the schema is the one this code was written for."""
    async with reading(engine) as connection:
        current = await connection.run_sync(_current)
    if current != _scripts().get_current_head():
        raise _mismatch(current)


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(alembic_config())


def _current(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _mismatch(current: str | None) -> SchemaMismatch:
    scripts = _scripts()
    head = scripts.get_current_head()
    if current is None:
        problem = "it has no Pawl tables yet; `pawl migrate`, `pawl up` or `pawl work` makes them."
    elif current in {script.revision for script in scripts.walk_revisions()}:
        problem = (
            f"its schema {current} is older than this Pawl's {head}; `pawl migrate` or a start of the learner mends it."
        )
    else:
        problem = (
            f"its schema {current} is unknown to this Pawl (newest: {head}): a newer Pawl made it. Install that, "
            f"or take the schema back with it (`pawl migrate --to {head}`)."
        )
    return SchemaMismatch(problem=problem)

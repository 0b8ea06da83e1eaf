"""Fixtures that every test may ask for."""

import os
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import structlog
from hypothesis import settings
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.databases import close_database, open_database
from tests.pgbouncer import pgbouncer
from tests.processes import install, trained_installation
from tests.servers import postgres_server, postgres_url, redis_server, redis_url, short_folder
from tests.shared import shared_root

__all__ = [
    "install",
    "pgbouncer",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
    "short_folder",
    "trained_installation",
]


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[AsyncEngine]:
    """An empty SQLite database of this test's own."""
    threads = threading.enumerate()
    engine = open_database(tmp_path / "database")
    yield engine
    await close_database(engine, threads)


# How long an example takes says something about the machine, not about what is tested.
settings.register_profile("pawl", deadline=None)
settings.load_profile("pawl")

# `auto` measures for two seconds in each new home; tests/pawl/classifier/encoders/test_backends.py is about that.
os.environ.setdefault("PAWL_BACKEND", "onnxruntime")

# As in the product, tracebacks are text: a pretty one prints every local variable of every frame, and takes seconds.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.format_exc_info,
        structlog.dev.ConsoleRenderer(colors=False),
    ]
)

# The process that starts the others makes the folder that they share.
shared_root()

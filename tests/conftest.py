"""Fixtures that every test may ask for."""

import os

from tests.pgbouncer import pgbouncer
from tests.processes import install, trained_installation
from tests.servers import postgres_server, postgres_url, redis_server, redis_url, short_folder

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

# `auto` measures for two seconds in each new home; tests/pawl/classifier/test_backends.py is about that.
os.environ.setdefault("PAWL_BACKEND", "onnxruntime")

"""Fixtures that every test may ask for."""

from tests.processes import install, trained_installation
from tests.servers import postgres_server, postgres_url, redis_server, redis_url, short_folder

__all__ = [
    "install",
    "postgres_server",
    "postgres_url",
    "redis_server",
    "redis_url",
    "short_folder",
    "trained_installation",
]

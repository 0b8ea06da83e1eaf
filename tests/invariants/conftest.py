"""One run in which the learner is killed twenty times, for all tests that judge what came of it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.invariants.kills import KillRun, Outcome
from tests.processes import LENIENT, Installation, installing
from tests.servers import RedisServer


@pytest.fixture(scope="session")
def killed(tmp_path_factory: pytest.TempPathFactory, short_folder: Path, trained_installation: Installation) -> Outcome:
    """The outcome of one run of kills, which several tests judge."""
    folder = short_folder / "kills-redis"
    folder.mkdir()
    server = RedisServer(folder)
    server.start()
    try:
        with installing(tmp_path_factory.mktemp("kills"), trained_installation) as installer:
            pawl = installer.trained(redis_url=server.url, **LENIENT)
            return asyncio.run(KillRun(pawl, seed=7).run())
    finally:
        server.stop()

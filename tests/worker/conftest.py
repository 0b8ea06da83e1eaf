"""One thread for small matrices: more only wait for each other, badly so on a busy machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import torch

from tests.learners import new_learner, opened
from tests.processes import LENIENT, Installer
from tests.worker.lives import Lived


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
async def lived(install: Installer) -> AsyncIterator[Lived]:
    """Version 1: 40 samples of each of five labels."""
    pawl = install.trained(**LENIENT)
    async with opened(pawl) as engine:
        learner = new_learner(pawl.settings, engine)
        await learner.runner.catch_up()
        yield Lived(pawl, engine, learner)

"""A store large enough to set samples aside."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import torch

from pawl.domain.samples import NewSample
from tests.worker.consolidation.world import World, labelled, open_world


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for each other in every tiny operation crawl where other processes use the cores too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    """A live version that has learned 420 texts, and five golden ones, of which one came as feedback too."""
    world = await open_world(tmp_path / "home", epochs="1")
    golden = [NewSample(f"golden text number {k}", "odd", golden=True) for k in range(5)]
    again = NewSample("golden text number 0", "good", task="mood", create_task=True)
    await world.learn([*labelled(420), *golden, again])
    yield world
    await world.engine.dispose()

"""What the tests of the command line share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture(scope="session")
def tiny_encoder(short_folder: Path) -> Path:
    """A random encoder as published: what PAWL_ENCODER may name."""
    return write_tiny_encoder(short_folder / "tiny")

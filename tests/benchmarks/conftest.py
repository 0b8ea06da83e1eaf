"""What the benchmarks' programs run on in tests."""

from __future__ import annotations

import pytest

from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture
def tiny(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny encoder and few features for all processes of the test."""
    encoder = write_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    for name, value in {
        "encoder": str(encoder),
        "random_features": "64",
        "lexical_size": "256",
        "threads": "1",
    }.items():
        monkeypatch.setenv(f"PAWL_{name.upper()}", value)

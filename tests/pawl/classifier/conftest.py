"""Encoder folders, exported once."""

from pathlib import Path

import pytest

from pawl.classifier.encoders.export import export_encoder
from tests.tiny_encoder import exported_tiny_encoder

TEXTS = [
    "my card has not arrived",
    "",
    "   ",
    "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn in the corresponding period of 2007",
    "😀😀 naïve café — 中文 текст",
    "a\x00b",
    "why was I charged twice? " * 60,
    "x" * 5000,
    "refund",
    "how do I activate my new card",
]


@pytest.fixture(scope="session")
def tiny() -> tuple[Path, str]:
    return exported_tiny_encoder()


@pytest.fixture(scope="session")
def minilm(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("minilm") / "encoder"
    return folder, export_encoder("small", folder, max_tokens=256)

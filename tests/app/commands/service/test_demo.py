"""What an empty home begins with: a Chinese task only where it can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from app.commands.home.stores import open_stores
from app.commands.service.demo import readable_demo
from app.demo import CHINESE_TASK, demo_samples
from pawl.classifier.lexical import LexicalFeatures
from pawl.settings import Settings
from tests.tiny_encoder import write_tiny_encoder


@pytest.mark.parametrize(("size", "least"), [(4096, 0.85), (1024, 0.8)])
def test_words_carry_the_chinese_task_leave_one_out(size: int, least: float) -> None:
    samples = [sample for sample in demo_samples() if sample.task == CHINESE_TASK]
    labels = sorted({sample.label for sample in samples})
    targets = np.array([labels.index(sample.label) for sample in samples])
    rows = LexicalFeatures(size).expand([sample.text for sample in samples]).astype(np.float64)
    kernel, truth = rows @ rows.T, np.eye(len(labels))[targets]
    hat = kernel @ np.linalg.inv(kernel + np.eye(len(samples)))
    left_out = truth - (truth - hat @ truth) / (1.0 - hat.diagonal())[:, None]
    assert np.mean(left_out.argmax(axis=1) == targets) >= least


async def test_it_shows_where_words_or_the_encoder_read_it(tmp_path: Path) -> None:
    tiny = write_tiny_encoder(tmp_path / "tiny")
    for number, (encoder, size, shown) in enumerate(
        [("none", 4096, True), (str(tiny), 4096, True), (str(tiny), 256, False), (str(tmp_path / "gone"), 0, False)]
    ):
        settings = Settings(home=tmp_path / str(number), encoder=encoder, lexical_size=size)
        async with open_stores(settings, migrate=True) as stores:
            tasks = {sample.task for sample in await readable_demo(settings, stores)}
        assert (CHINESE_TASK in tasks) is shown, (encoder, size)
        assert {"default", "topic", "sentiment"} <= tasks

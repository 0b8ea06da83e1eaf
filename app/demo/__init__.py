"""Labelled texts written for this project, so that a first start has something to learn and to show.

`support.csv`    333 messages to an online shop in 10 intents (task `default`)
`headlines.csv`  120 invented financial headlines with a topic and a sentiment (tasks `topic` and `sentiment`)
`support_zh.csv` 252 Chinese messages to an online shop in 6 intents (task `support_zh`)
"""

from __future__ import annotations

import csv
from importlib.resources import files

from pawl.domain.samples import DEFAULT_TASK, NewSample, Origin

SOURCE = "pawl demo"
CHINESE_TASK = "support_zh"
_TASKS = (
    ("support.csv", "label", DEFAULT_TASK),
    ("headlines.csv", "topic", "topic"),
    ("headlines.csv", "sentiment", "sentiment"),
    ("support_zh.csv", "label", CHINESE_TASK),
)


def demo_samples() -> list[NewSample]:
    """All demo samples of the four tasks, ready for the sample store."""
    return [
        NewSample(text=row["text"], label=row[column], task=task, source=SOURCE, origin=Origin.IMPORT, create_task=True)
        for name, column, task in _TASKS
        for row in csv.DictReader(files(__name__).joinpath(name).read_text(encoding="utf-8").splitlines())
    ]

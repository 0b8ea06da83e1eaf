"""What an empty home begins with: the demo's tasks, as far as they can be read there."""

from __future__ import annotations

import asyncio

from app.commands.data.reading import measure, reader_of_home
from app.commands.home.stores import HomeStores
from app.demo import CHINESE_TASK, demo_samples
from pawl.domain.samples import NewSample
from pawl.settings import Settings

_FEATURES_THAT_CARRY = 1024
"""Lexical features with which words alone answer 83 % of the Chinese task right (4,096: 91 %), leave-one-out."""


async def readable_demo(settings: Settings, stores: HomeStores) -> list[NewSample]:
    """The demo's samples; the Chinese task only where words carry it, or where the encoder knows its tokens."""
    samples = demo_samples()
    if settings.lexical_size >= _FEATURES_THAT_CARRY:
        return samples
    rows = [(sample.task, sample.text, sample.label) for sample in samples if sample.task == CHINESE_TASK]
    totals = (await asyncio.to_thread(measure, await reader_of_home(settings, stores), rows)).totals
    if totals is not None and not totals.is_unknown_language:
        return samples
    return [sample for sample in samples if sample.task != CHINESE_TASK]

"""Texts that are longer than the encoder reads: two that differ only after the cut are one text to it.

They get one answer whatever the head learns of them, so their labels do not contradict each other: such samples raise
no doubt, evaluate no candidate, and are not emphasised. The answer to the request says it
(`app/serving/feedback/text_warnings.py`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from pawl.classifier.encoders.tokenization import reader_of
from pawl.domain.reading import ReadingTotals, TextReading
from pawl.domain.samples import Sample
from pawl.json_values import Json
from pawl.ports import SampleStore
from worker.state.learner_state import LearnerState


def readings(state: LearnerState, samples: Sequence[Sample]) -> list[TextReading]:
    """How the encoder reads these; empty where it does not tell."""
    reader = reader_of(state.encoder)
    return [] if reader is None else reader.read([sample.text for sample in samples])


def read_by_task(state: LearnerState, samples: Sequence[Sample]) -> Json:
    """What a version's metrics say of the texts it learned: tokens, the share of unknown ones, how many were cut."""
    by_task: dict[str, list[TextReading]] = {}
    # Not strict: there are no readings where the encoder does not tell how it reads.
    for sample, reading in zip(samples, readings(state, samples), strict=False):
        by_task.setdefault(sample.task, []).append(reading)
    return {task: ReadingTotals.of(of_task).to_json() for task, of_task in by_task.items()}


async def find_alike(state: LearnerState, store: SampleStore, adds: Sequence[Sample]) -> set[str]:
    """Ids of samples, arriving or learned, that read the same as another one with another label."""
    read = await asyncio.to_thread(readings, state, adds)
    cuts = {sample.id: reading.cut for sample, reading in zip(adds, read, strict=False) if reading.cut is not None}
    alike: set[str] = set()
    for task in sorted({sample.task for sample in adds if sample.id in cuts}):
        cut = [sample for sample in adds if sample.task == task and sample.id in cuts]
        known = await store.cut_alike(state.encoder.digest, task, [cuts[sample.id] for sample in cut])
        for sample in cut:
            same = [*known.get(cuts[sample.id], ()), *(other for other in cut if cuts[other.id] == cuts[sample.id])]
            # One text with two labels is not meant: that is a conflict, in which the newer label counts.
            rivals = {
                other.id for other in same if other.text_digest != sample.text_digest and other.label != sample.label
            }
            if rivals:
                alike |= {sample.id, *rivals}
    return alike

"""Texts that are longer than the encoder reads: two that differ only after the cut are one text to it.

They get one answer whatever they are taught, so their labels are not held against each other: such samples raise no
doubt, judge no candidate, and are not emphasised. Who sent the label is told (`app/serving/feedback/readings.py`).
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
    for sample, reading in zip(samples, readings(state, samples), strict=False):
        by_task.setdefault(sample.task, []).append(reading)
    return {task: ReadingTotals.of(found).to_json() for task, found in by_task.items()}


async def note_alike(state: LearnerState, store: SampleStore, adds: Sequence[Sample]) -> None:
    """Notes which arriving samples read the same as others with another label, and takes those off the panels.

    Golden and pinned ones stay: their owner said that they judge.
    """
    found = await asyncio.to_thread(readings, state, adds)
    cuts = {sample.id: one.cut for sample, one in zip(adds, found, strict=False) if one.cut is not None}
    if not cuts:
        return
    for task in sorted({sample.task for sample in adds}):
        own = [sample for sample in adds if sample.task == task and sample.id in cuts]
        known = await store.cut_alike(state.encoder.digest, task, [cuts[sample.id] for sample in own])
        for sample in own:
            here = [other for other in own if cuts[other.id] == cuts[sample.id]]
            others = [*known.get(cuts[sample.id], ()), *here]
            alike = [one for one in others if one.text_digest != sample.text_digest and one.label != sample.label]
            if alike:
                state.alike |= {sample.id, *(one.id for one in alike)}
        learner = state.tasks.get(task)
        if learner is not None:
            kept = {item.sample_id for item in learner.evaluation.items if item.golden or item.pinned}
            learner.unseat(state.alike - kept)

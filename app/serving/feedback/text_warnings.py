"""Warnings, for whoever sends a label, about texts that the encoder cannot read in full or at all."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.serving.predictions.engine import Engine
from pawl.domain.errors import StoreUnavailable
from pawl.domain.reading import TRUNCATED, UNKNOWN_LANGUAGE, cannot_hold
from pawl.domain.samples import digest_text
from pawl.ports import SampleStore


async def warnings_of(
    engine: Engine, store: SampleStore, labelled: Sequence[tuple[str, str, str]]
) -> list[tuple[str, ...]]:
    """Returns the warnings for each (task, text, label): how the live version's encoder reads the text.

    It warns that a label cannot hold where the encoder reads the same of another text with another label. Without a
    live version there are none.
    """
    live = engine.live
    readings = []
    if live is not None:
        # Tokenising is CPU work: on the event loop all other requests would wait for it.
        readings = await asyncio.to_thread(live.classifier.read, [text for _, text, _ in labelled])
    if live is None or not readings:
        return [()] * len(labelled)
    warnings = _told_once([reading.warnings for reading in readings])
    digest = live.classifier.manifest.encoder_digest
    for row, ((task, text, label), reading) in enumerate(zip(labelled, readings, strict=True)):
        if reading.cut is None or TRUNCATED not in warnings[row]:
            continue
        try:
            alike = (await store.cut_alike(digest, task, [reading.cut])).get(reading.cut, [])
        except StoreUnavailable:  # the label is durable already: nothing else depends on this
            continue
        others = [sample for sample in alike if sample.label != label and sample.text_digest != digest_text(text)]
        if others:
            warnings[row] += (cannot_hold(live.classifier.max_tokens, others[-1].id, others[-1].label),)
    return warnings


def _told_once(warnings: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Which encoder to take is told with the first text of a request that the present one does not know."""
    is_recommended, bounded = False, []
    for of_text in warnings:
        unknown = [each for each in of_text if each.startswith(UNKNOWN_LANGUAGE)]
        bounded.append(tuple(UNKNOWN_LANGUAGE if is_recommended and each in unknown else each for each in of_text))
        is_recommended = is_recommended or bool(unknown)
    return bounded

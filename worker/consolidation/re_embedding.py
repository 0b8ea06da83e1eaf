"""Embeds the stored samples again with the artefact that will serve."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pawl.domain.errors import TrainingFailed
from pawl.ports import Encoder, Floats, SampleStore
from worker.consolidation.data.inputs import read_samples
from worker.consolidation.progress import Progress

_PAGE = 512


async def embed_again(
    samples: SampleStore, encoder: Encoder, ids: Sequence[str], progress: Progress
) -> tuple[list[str], Floats]:
    """Embeds samples page by page; returns the ids that still exist, and their z, shape (n, d), in the same order.

    Raises `TrainingFailed` when a number is not finite: such an encoder must not get as far as the gate.
    """
    done: list[str] = []
    z = np.zeros((len(ids), encoder.dimension), dtype=np.float32)
    for start in range(0, len(ids), _PAGE):
        page = await read_samples(samples, ids[start : start + _PAGE])
        # Counted by what was there: samples retracted meanwhile leave no gap, and z is cut to `done` at the end.
        z[len(done) : len(done) + len(page)] = encoder.encode([sample.text for sample in page.values()])
        done.extend(page)
        if progress.due():
            progress.write("embedding", start + len(page), len(ids))
    if not np.isfinite(z).all():
        raise TrainingFailed(problem="the new encoder gives numbers that are not finite")
    return done, z[: len(done)]

"""In which order the samples of a refused batch are tried."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from app.core.domain.samples import Sample
from app.core.ports import Floats, SampleStore
from worker.state import LearnerState, embeddings_of


async def least_opposed_first(state: LearnerState, store: SampleStore, samples: Sequence[Sample]) -> list[Sample]:
    """By how far the live head's score of the label is behind that of its answer, ascending.

    All parts of a batch share what the gate tolerates. In the order of arrival wrong labels, each harmless enough
    alone, would use it up, and harmless ones that come after them would be refused for it. It is also quicker: what is
    refused comes to lie together.
    """
    embeddings = await embeddings_of(state, store, samples)
    behind = await asyncio.to_thread(_behind, state, samples, embeddings)
    return sorted(samples, key=lambda sample: behind[sample.id])


def _behind(state: LearnerState, samples: Sequence[Sample], embeddings: Mapping[str, Floats]) -> dict[str, float]:
    found = {}
    for example, sample in zip(state.examples(samples, dict(embeddings)), samples, strict=True):
        learner = state.task(sample.task)
        if not learner.labels:
            found[sample.id] = 0.0
            continue
        scores = example.features.to(learner.head.weights) @ learner.head.weights + learner.offsets(learner.counts)
        best = float(scores.max())
        # A label nobody saw before has no score yet: no evidence for it, none against.
        own = float(scores[learner.labels.index(sample.label)]) if sample.label in learner.labels else min(best, 0.0)
        found[sample.id] = best - own
    return found

"""A learning step without a new sample: all that a step does, except that nothing comes of it.

It tells a fault of the place from one of a sample: what fails here too is not the sample's.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import numpy as np
import torch

from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.versions import VersionKind
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.proposal import Proposal
from worker.release.publisher import Publisher
from worker.state.learner_state import LearnerState
from worker.updates.head_update import Learning
from worker.updates.step import Step

_TEXT = "The quick brown fox jumps over the lazy dog."
_ID = "rehearsal"


async def rehearse(learning: Learning, publisher: Publisher) -> None:
    """Embeds a text, proposes it to a head, writes the version that would come of it, judges it, reads it back and
    removes it. Before there is a version only the disk is tried. Raises what does not work.
    """
    state = learning.state
    if state is None:
        await publisher.probe()
        return
    candidates = await asyncio.to_thread(_candidates, state)
    step = Step(VersionKind.HEAD, _ID, candidates)
    ranked = await asyncio.to_thread(state.ranked, candidates)
    written, _ = await learning.written(state, step, ranked)
    await publisher.take_back(written)


def _candidates(state: LearnerState) -> dict[str, Proposal]:
    z = state.encoder.encode([_TEXT])
    if not np.isfinite(z).all():
        raise ArtefactCorrupt(path=state.encoder_folder, problem="its embeddings are not finite")
    features = torch.from_numpy(state.features.expand(z))[0]
    for task, learner in state.tasks.items():
        for label, count in zip(learner.labels, learner.counts, strict=True):
            if count:
                example = LabelledFeatures(_ID, label, weight=1.0, features=features, order=_ID)
                proposed = learner.propose(ModelChange(adds=[example], corrections=frozenset({_ID})))
                return {task: _without_arrivals(proposed)}
    return {}


def _without_arrivals(candidate: Proposal) -> Proposal:
    paired = candidate.paired
    none = {name: getattr(paired, name)[:0] for name in ("new_targets", "new_live", "new_candidate")}
    return replace(candidate, paired=replace(paired, **none))

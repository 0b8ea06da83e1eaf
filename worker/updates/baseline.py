"""What a batch is measured against: the answers of the head from before it, whatever of the batch is in by now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pawl.domain.samples import Sample
from worker.model.change import LabelledFeatures
from worker.model.class_balance import NEVER
from worker.model.proposal import PairedScores
from worker.model.task_model import TaskModel
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Standard:
    """A task's head at some moment: W (p, C), prior corrections (C,), samples of each label, and the leave-one-out
    scores (C,) that it gave to the items of its panel, by sample id.
    """

    weights: Tensor
    offsets: Tensor
    counts: tuple[int, ...]
    answers: Mapping[str, Tensor]

    def measure(self, paired: PairedScores, arrivals: Mapping[str, LabelledFeatures]) -> PairedScores:
        """The same judgement with this head as the live one. What it has never seen (`arrivals`) it answers as it
        stands; items that came to the panel by another way since keep the present head's answers.
        """
        width = len(paired.labels)
        live = torch.full_like(paired.live, NEVER)
        for row, item in enumerate(paired.items):
            scores = self.answers.get(item.sample_id)
            if scores is None and item.sample_id in arrivals:
                scores = arrivals[item.sample_id].features.to(self.weights) @ self.weights + self.offsets
            scores = paired.live[row] if scores is None else scores[:width]
            live[row, : len(scores)] = scores
        counts = [*self.counts, *[0] * (width - len(self.counts))]
        columns = torch.zeros(width, dtype=torch.bool)
        if len(paired.candidate):
            columns = paired.candidate.amax(0).cpu() > NEVER / 2
        fresh = tuple(column for column in range(width) if not counts[column] and bool(columns[column]))
        return replace(paired, live=live, fresh=fresh, present=paired.live)


def standard_of(learner: TaskModel) -> Standard:
    """The head as it is."""
    ids = [item.sample_id for item in learner.evaluation.items]
    answers = dict(zip(ids, learner.leave_one_out(), strict=True)) if ids else {}
    return Standard(learner.head.weights, learner.offsets(learner.counts), tuple(learner.counts), answers)


async def standard_without(
    state: LearnerState, recovery: Recovery, task: str, pages: AsyncIterator[Sequence[Sample]]
) -> Standard | None:
    """The head as it would be without some samples that it has learned: they leave a copy of it as exactly as they
    came, a page at a time. None where there are none of these, or none but these: the present head is the measure then.
    """
    present = learner = state.task(task)
    shadow = state
    gone: set[str] = set()
    async for page in pages:
        if not gone:
            learner = await asyncio.to_thread(present.copy)
            shadow = replace(state, tasks={**state.tasks, task: learner})
        if len(page) >= learner.samples:
            return None
        change = await recovery.change(shadow, task, [], page, gone)
        proposal = await asyncio.to_thread(learner.propose, change, bulk=True)
        await asyncio.to_thread(learner.apply, proposal)
        gone.update(sample.id for sample in page)
    if not gone:
        return None
    standard = await asyncio.to_thread(standard_of, learner)
    left = [row for row, item in enumerate(present.evaluation.items) if item.sample_id not in standard.answers]
    rows = present.evaluation.features[left] @ standard.weights + standard.offsets
    own = {present.evaluation.items[row].sample_id: scores for row, scores in zip(left, rows, strict=True)}
    return replace(standard, answers={**standard.answers, **own})

"""What a batch is compared with: the answers of the head from before it, whatever of it was learned since."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from pawl.domain.samples import Sample
from worker.model.change import LabelledFeatures
from worker.model.class_balance import NEVER
from worker.model.proposal import PairedScores
from worker.model.stacked_head import StackedHead
from worker.model.task_model import TaskModel
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_state import LearnerState

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Baseline:
    """A task's heads at some moment, and samples of each label.

    `answers` are the leave-one-out scores (C,) of the samples in its evaluation set, by sample id.
    """

    head: StackedHead
    counts: tuple[int, ...]
    answers: Mapping[str, Tensor]

    def measure(self, paired: PairedScores, arrivals: Mapping[str, LabelledFeatures]) -> PairedScores:
        """The same comparison with this head as the live one.

        It scores `arrivals`, which it has never seen, as it stands. Items that came into the evaluation set in another
        way since then keep the present head's scores.
        """
        width = len(paired.labels)
        # Labels keep their columns and new ones come at the end, so rows of an older, narrower head fit from the left;
        # the rest stays `NEVER`: a label that this head could not answer.
        live = torch.full_like(paired.live, NEVER)
        for row, item in enumerate(paired.items):
            scores = self.answers.get(item.sample_id)
            if scores is None and item.sample_id in arrivals:
                scores = self.head.scores(arrivals[item.sample_id].features)
            scores = paired.live[row] if scores is None else scores[:width]
            live[row, : len(scores)] = scores
        # New is what this head had no sample of. The live head may have learned some from an earlier part of the batch:
        # by its counts these are not new any more, and what is overlap in the first part would be harm in the second.
        counts = [*self.counts, *[0] * (width - len(self.counts))]
        columns = torch.zeros(width, dtype=torch.bool)
        if len(paired.candidate):
            columns = paired.candidate.amax(0).cpu() > NEVER / 2
        fresh = tuple(column for column in range(width) if not counts[column] and bool(columns[column]))
        return replace(paired, live=live, fresh=fresh, present=paired.live)


def baseline_of(model: TaskModel) -> Baseline:
    """The heads as they are."""
    ids = [item.sample_id for item in model.evaluation.items]
    answers = dict(zip(ids, model.leave_one_out(), strict=True)) if ids else {}
    return Baseline(model.stacked, tuple(model.counts), answers)


async def baseline_without(
    state: LearnerState, learned: LearnedSamples, task: str, pages: AsyncIterator[Sequence[Sample]]
) -> Baseline | None:
    """The head as it would be without some samples that it has learned: they leave a copy of it as exactly as they
    came, a page at a time. None where there are none of these, or none but these: the live head is the baseline then.
    """
    live = model = state.model(task)
    copied = state
    absent: set[str] = set()
    async for page in pages:
        if not absent:
            model = await asyncio.to_thread(live.copy)
            copied = replace(state, tasks={**state.tasks, task: model})
        if len(page) >= model.samples:
            return None
        # For SQL the pages before this one are still learned. Without `absent` they would be re-weighted with their
        # class although the copy does not hold them any more.
        change = await learned.change(copied, task, [], page, absent=absent)
        proposal = await asyncio.to_thread(model.propose, change, bulk=True)
        await asyncio.to_thread(model.apply, proposal)
        absent.update(sample.id for sample in page)
    if not absent:
        return None
    baseline = await asyncio.to_thread(baseline_of, model)
    items = live.evaluation.items
    # What has left is unseen by this head: its plain scores phi W + offsets are what leave-one-out is for the others.
    unseated = [row for row, item in enumerate(items) if item.sample_id not in baseline.answers]
    features = {head: live.evaluation.features(head)[unseated] for head in live.heads}
    rows = baseline.head.scores(features)
    answers = {items[row].sample_id: scores for row, scores in zip(unseated, rows, strict=True)}
    return replace(baseline, answers={**baseline.answers, **answers})

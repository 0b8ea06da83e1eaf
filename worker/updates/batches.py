"""Which samples are judged together, and what against.

A batch is what came in one request or in one import, however the stream delivers it and whatever `bulk_batch` is. What
was refused and comes again is measured with all that is in of the batch it was refused with: against the head without
these. So no sequence of deliveries or releases reaches what the batch was refused for.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field, replace

from pawl.domain.samples import Sample, SampleState
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.updates.baseline import Baseline, baseline_of, baseline_without
from worker.updates.step import Step, of_task

Pages = AsyncIterator[Sequence[Sample]]
_ASKED = 100
"""Samples of a batch that are asked what they were refused for."""
JUDGED_TOGETHER = 20_000
"""Most samples of an import that are judged at once: as many as the first version takes, about 400 MB while it lasts.
Of a larger one the parts are judged one after the other, each with those before it, against the version before all.
"""


@dataclass(frozen=True, slots=True)
class Batch:
    """Samples that are judged together.

    Args:
        samples: what is to be learned, whatever its task.
        baselines: by task, the head that it is compared with, where parts of the batch are in the live one already.
        charged: by task, what parts of it were refused for.
        forced: the reason of an owner who wants it whatever the gate finds.
    """

    samples: Sequence[Sample]
    baselines: dict[str, Baseline] = field(default_factory=dict)
    charged: dict[str, set[str]] = field(default_factory=dict)
    forced: str | None = None

    def measured(self, step: Step) -> Step:
        """The step, compared with the baselines where there are some."""
        proposals = dict(step.proposals)
        for task in self.baselines.keys() & proposals.keys():
            arrivals = {example.sample_id: example for example in step.changes[task].adds}
            paired = self.baselines[task].measure(proposals[task].paired, arrivals)
            proposals[task] = replace(proposals[task], paired=paired)
        return replace(step, proposals=proposals, charged=self.charged, forced=self.forced, reason=self.forced)


def split_batches(samples: Sequence[Sample]) -> list[list[Sample]]:
    """By import; what was refused before and released apart from what comes for the first time."""
    parts: dict[str, list[Sample]] = {}
    for sample in samples:
        is_queued = sample.state is SampleState.QUEUED
        released = "released" if is_queued and sample.reviewed_at is not None else ""
        parts.setdefault((is_queued and sample.import_id) or released, []).append(sample)
    return list(parts.values())


class BatchBuilder:
    """Completes batches. One coroutine drives it."""

    def __init__(self, ports: LearnerPorts, learned: LearnedSamples) -> None:
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._learned = learned
        self._unfinished: tuple[str, dict[str, Baseline]] | None = None
        """Import of which more will come, and the heads from before it."""
        self._generation = -1

    async def complete(self, state: LearnerState, part: Sequence[Sample], *, alone: bool) -> Batch:
        """The batch that some samples, one part of `split_batches`, belong to."""
        if self._generation != state.generation:  # what the heads were before is worked out again
            self._unfinished, self._generation = None, state.generation
        first = part[0]
        if first.state is not SampleState.QUEUED or (first.import_id is None and first.reviewed_at is None):
            return Batch(part)
        if first.import_id is None:
            baselines = await self._baselines(state, part, self._refused_with)
            return Batch(part, baselines, await self._charged(part))
        import_id = first.import_id
        # The whole import, not only what this delivery brought: judged apart, deliveries could each pass with a share
        # of a loss for which the whole is refused.
        if not alone:
            part = await self._samples.of_import(import_id, SampleState.QUEUED, JUDGED_TOGETHER)
        imports = await self._samples.imports([import_id])
        forced = imports[import_id].accept_reason if import_id in imports else None
        if self._unfinished is not None and self._unfinished[0] == import_id:
            baselines = self._unfinished[1]
        else:
            baselines = await self._baselines(state, part, self._imported)
        self._unfinished = None
        if len(part) == JUDGED_TOGETHER:  # more of it will come
            tasks = {sample.task for sample in part}
            # Kept until the next part: working it out again would take all that is in of the import out of a copy. A
            # task that has a baseline keeps it (`|`, the right one wins): it is from before the import's first part.
            before = {task: await asyncio.to_thread(baseline_of, state.model(task)) for task in tasks}
            self._unfinished = import_id, before | baselines
        held = await self._samples.of_import(import_id, SampleState.QUARANTINED, _ASKED)
        released = [sample for sample in part if sample.reviewed_at is not None][:_ASKED]
        return Batch(part, baselines, await self._charged([*held, *released]), forced)

    async def _charged(self, samples: Sequence[Sample]) -> dict[str, set[str]]:
        """By task, what versions with these samples were refused for."""
        charged: dict[str, set[str]] = {}
        for number in await self._ledger.refusals_of([sample.id for sample in samples]):
            for task, names in (await self._ledger.get(number)).gate.get("charges", {}).items():
                charged.setdefault(task, set()).update(names)
        return charged

    async def _baselines(
        self, state: LearnerState, part: Sequence[Sample], others: Callable[[Sequence[Sample]], Pages]
    ) -> dict[str, Baseline]:
        """By task, the head as it would be without the others; nothing where there are no others."""
        baselines = {}
        for task in sorted({sample.task for sample in part}):
            pages = _learned_of(task, others(part))
            baseline = await baseline_without(state, self._learned, task, pages)
            if baseline is not None:
                baselines[task] = baseline
        return baselines

    async def _imported(self, part: Sequence[Sample]) -> Pages:
        after = 0
        import_id = str(part[0].import_id)
        while page := await self._samples.of_import(import_id, SampleState.LEARNED, JUDGED_TOGETHER, after):
            after = page[-1].seq
            yield page

    async def _refused_with(self, part: Sequence[Sample]) -> Pages:
        yield await self._samples.get_many(await self._ledger.refused_with([sample.id for sample in part]))


async def _learned_of(task: str, pages: Pages) -> Pages:
    async for page in pages:
        if learned := [sample for sample in of_task(page, task) if sample.state is SampleState.LEARNED]:
            yield learned

"""A task taken out whole, or what one source said in it: every sample leaves the head exactly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import structlog

from pawl.domain.labels import LabelChange, drop_reason
from pawl.domain.samples import Sample
from pawl.domain.versions import VersionKind
from pawl.ports import LabelStore, SampleStore
from pawl.settings import Settings
from worker.model.relabel import propose_without_empty
from worker.state.learner_state import LearnerState
from worker.updates.head_update import Learning
from worker.updates.step import Step

_PAGE = 2000
_SOURCE, _TASK = "source dropped", "task dropped"
log = structlog.get_logger(__name__)


class Dropping:
    """Carries out requests to drop. A gate has no say in them: what there is to answer is an operator's decision."""

    def __init__(self, learning: Learning, labels: LabelStore, samples: SampleStore, settings: Settings) -> None:
        self._learning = learning
        self._labels = labels
        self._samples = samples
        self._settings = settings

    async def carry_out(self, state: LearnerState | None, change: LabelChange) -> None:
        """Makes the versions that it takes; the last one settles the change. Taken up again, it goes on."""
        if state is None or change.task not in state.tasks:
            await self._labels.apply(change.id)
        elif change.target is None or await self._has_no_other(change.task, change.target):
            await self._drop_task(state, change)
        else:
            await self._drop_source(state, change)
        log.info("samples_dropped", task=change.task, source=change.target, change=change.id)

    async def _drop_task(self, state: LearnerState, change: LabelChange) -> None:
        removes: dict[str, str] = {}
        async for page in self._learned(change.task):
            removes |= {sample.id: drop_reason(change) for sample in page}
        step = Step(
            VersionKind.HEAD,
            _TASK,
            {},
            removes=removes,
            forced=_TASK,
            label=change,
            without=change.task,
        )
        await self._run(state, step)

    async def _drop_source(self, state: LearnerState, change: LabelChange) -> None:
        """First its samples, some at a time; then the labels that have none left."""
        async for page in self._learned(change.task):
            own = [sample for sample in page if sample.source == change.target]
            if own:
                step = await self._learning.propose(state, [], own, {}, bulk=True)
                reasons = {sample.id: drop_reason(change) for sample in own}
                await self._run(
                    state, replace(step, trigger="source dropped", removes=reasons, forced="source dropped")
                )
        candidate = await asyncio.to_thread(propose_without_empty, state.tasks[change.task])
        if candidate is None:
            await self._labels.apply(change.id)
            return
        step = Step(VersionKind.HEAD, _SOURCE, {change.task: candidate}, forced=_SOURCE, label=change)
        await self._run(state, step)

    async def _run(self, state: LearnerState, step: Step) -> None:
        version, report = await self._learning.run(state, step)
        if version is None:
            raise RuntimeError("; ".join(report.reasons))
        if step.label is not None:
            # Recovery cannot follow the ledger over this version, so a snapshot of it is due.
            state.unsaved += self._settings.snapshot_every

    async def _has_no_other(self, task: str, source: str) -> bool:
        async for page in self._learned(task):
            if any(sample.source != source for sample in page):
                return False
        return True

    async def _learned(self, task: str) -> AsyncIterator[list[Sample]]:
        after = 0
        while page := await self._samples.learned(task, after, _PAGE):
            after = page[-1].seq
            yield page

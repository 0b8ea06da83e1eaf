"""Removes a task, or what one source sent for it: every sample leaves the head exactly."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import structlog

from pawl.domain.labels import LabelChange, drop_reason
from pawl.domain.versions import VersionKind
from pawl.ports import LabelStore
from worker.model.relabel import propose_without_empty
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_state import LearnerState
from worker.updates.step import Step
from worker.updates.step_runner import StepRunner

_SOURCE, _TASK = "source dropped", "task dropped"
log = structlog.get_logger(__name__)


class TaskRemoval:
    """Carries out requests to drop, past the gate: which labels there are to answer is an operator's decision."""

    def __init__(self, runner: StepRunner, labels: LabelStore, learned: LearnedSamples) -> None:
        self._runner = runner
        self._labels = labels
        self._learned = learned

    async def carry_out(self, change: LabelChange) -> None:
        """Makes the versions that the change takes; the last one settles it. After a crash it goes on where it was."""
        state = self._runner.state
        if state is None or change.task not in state.tasks:
            await self._labels.apply(change.id)
        elif change.target is None or await self._has_no_other(change.task, change.target):
            await self._drop_task(change)
        else:
            await self._drop_source(change, change.target)
        log.info("samples_dropped", task=change.task, source=change.target, change=change.id)

    async def _drop_task(self, change: LabelChange) -> None:
        removes: dict[str, str] = {}
        async for page in self._learned.pages(change.task):
            removes |= {sample.id: drop_reason(change) for sample in page}
        step = Step(
            VersionKind.HEAD,
            _TASK,
            {},
            removes=removes,
            forced=_TASK,
            label=change,
            without=change.task,
            needs_snapshot=True,
        )
        await self._run(self._runner.live, step)

    async def _drop_source(self, change: LabelChange, source: str) -> None:
        """First its samples, some at a time; then the labels that have none left."""
        # Versions are made between two pages. The pages go by `seq`, so samples that leave meanwhile shift none of the
        # rest.
        async for page in self._learned.pages(change.task):
            leaving = [sample for sample in page if sample.source == source]
            if leaving:
                state = self._runner.live
                step = await self._runner.propose(state, [], leaving, bulk=True)
                reasons = {sample.id: drop_reason(change) for sample in leaving}
                await self._run(state, replace(step, trigger=_SOURCE, removes=reasons, forced=_SOURCE))
        state = self._runner.live
        proposal = await asyncio.to_thread(propose_without_empty, state.tasks[change.task])
        if proposal is None:
            await self._labels.apply(change.id)
            return
        await self._run(
            state,
            Step(
                VersionKind.HEAD,
                _SOURCE,
                {change.task: proposal},
                forced=_SOURCE,
                label=change,
                needs_snapshot=True,
            ),
        )

    async def _run(self, state: LearnerState, step: Step) -> None:
        version, report = await self._runner.run(state, step)
        if version is None:
            raise RuntimeError("; ".join(report.reasons))

    async def _has_no_other(self, task: str, source: str) -> bool:
        async for page in self._learned.pages(task):
            if any(sample.source != source for sample in page):
                return False
        return True

"""Carries out what operators decide about labels: each change is one version, or none where no head has the label."""

from __future__ import annotations

import asyncio

import structlog

from pawl.domain.errors import Conflict, ParentNotLive, StoreUnavailable
from pawl.domain.labels import LabelChange, LabelChangeKind, check_enough_stay, retirement_reason
from pawl.domain.versions import VersionKind
from pawl.settings import Settings
from worker.health.environment import Environment
from worker.model.proposal import Proposal
from worker.model.relabel import Retirement, propose_rename, reweighted
from worker.model.task_model import TaskModel
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.updates.step import Step
from worker.updates.step_runner import StepRunner
from worker.updates.task_removal import TaskRemoval

_TRIGGERS = {
    LabelChangeKind.RENAME: "label renamed",
    LabelChangeKind.MERGE: "label merged",
    LabelChangeKind.RETIRE: "label retired",
}
log = structlog.get_logger(__name__)


class LabelChanger:
    """Brings the heads to the labels that operators decided on. One coroutine drives it."""

    def __init__(
        self,
        runner: StepRunner,
        ports: LearnerPorts,
        learned: LearnedSamples,
        environment: Environment,
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._environment = environment
        self._labels = ports.labels
        self._samples = ports.samples
        self._learned = learned
        self._settings = settings
        self._task_removal = TaskRemoval(runner, ports.labels, learned)

    async def is_asked(self) -> bool:
        """Whether a change waits."""
        return bool(await self._labels.pending())

    async def carry_out(self) -> None:
        """Carries out what waits, oldest first; what cannot be is settled as failed, with the reason.

        Raises `ParentNotLive` when another learner was faster, `PlaceUnwell` when the environment is at fault; call
        again.
        """
        for change in await self._labels.pending():
            try:
                await self._carry_out(change)
            except (ParentNotLive, StoreUnavailable, ConnectionError):
                raise
            except Conflict as error:
                await self._fail(change, error)
            except Exception as error:
                if not await self._environment.is_fault_of_input(error):
                    raise
                log.exception("label_change_failed", change=change.id)
                await self._fail(change, error)

    async def _fail(self, change: LabelChange, error: Exception) -> None:
        await self._labels.fail(change.id, str(error)[:500])

    async def _carry_out(self, change: LabelChange) -> None:
        state = self._runner.state
        if change.kind is LabelChangeKind.DROP:
            await self._task_removal.carry_out(change)
            return
        learner = state.tasks.get(change.task) if state is not None else None
        if state is None or learner is None or change.label not in learner.labels:
            await self._labels.apply(change.id)
            return
        check_enough_stay(change, [label for label, n in zip(learner.labels, learner.counts, strict=True) if n])
        removes: dict[str, str] = {}
        if change.target is None:
            candidate, removes = await self._retire(state, learner, change)
        else:
            candidate = await self._rename(state, learner, change, change.target)
        # What an operator decides about the labels does not depend on what it does to the accuracy.
        step = Step(
            VersionKind.HEAD,
            _TRIGGERS[change.kind],
            {change.task: candidate},
            removes=removes,
            forced="label change",
            label=change,
            needs_snapshot=True,
        )
        version, report = await self._runner.run(state, step)
        if version is None:
            await self._labels.fail(change.id, "; ".join(report.reasons)[:500])
            return
        log.info("label_changed", kind=change.kind.value, task=change.task, label=change.label, target=change.target)

    async def _rename(self, state: LearnerState, learner: TaskModel, change: LabelChange, new: str) -> Proposal:
        members = {}
        for label in reweighted(learner, change.label, new) if new in learner.labels else []:
            # All of the label: only one below `young_class_size` changes its weight.
            rows = await self._samples.learned_with_label(change.task, label, self._settings.young_class_size)
            members[label] = await self._learned.features(state, rows)
        return await asyncio.to_thread(propose_rename, learner, change.label, new, members)

    async def _retire(
        self, state: LearnerState, learner: TaskModel, change: LabelChange
    ) -> tuple[Proposal, dict[str, str]]:
        removes: dict[str, str] = {}
        retirement = await asyncio.to_thread(Retirement, learner, change.label)
        # A page at a time: a label's features are p numbers a sample, for all of a large label gigabytes.
        async for ids, examples in self._learned.of_label(state, change.task, change.label):
            removes |= dict.fromkeys(ids, retirement_reason(change))
            await asyncio.to_thread(retirement.take_out, examples)
        return await asyncio.to_thread(retirement.propose), removes

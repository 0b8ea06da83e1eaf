"""Steps that change how a head is made rather than what it has learned: the first version, and lambda and temperature
as the store grows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

from pawl.domain.samples import Sample
from pawl.domain.versions import Version, VersionKind
from pawl.ports import SampleStore
from worker.model.hyperparameters import OVERDUE, choose_regularisation, choose_temperature, is_due
from worker.model.proposal import PairedScores, Proposal, RegularisationChoice, without_live
from worker.model.task_model import TaskModel
from worker.screening.conflict_resolution import sort_out
from worker.screening.truncation import note_alike
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.head_update import Learning
from worker.updates.step import Step

_TEMPERATURE_STEP = 0.1
"""Relative change of a temperature that is worth a version."""


class Tuning:
    """Makes the first version and keeps lambda and temperatures fitting."""

    def __init__(self, learning: Learning, samples: SampleStore, recovery: Recovery) -> None:
        self._learning = learning
        self._samples = samples
        self._recovery = recovery

    async def bootstrap(self, state: LearnerState, sample_ids: Sequence[str]) -> Version:
        """Makes the first version out of an empty state: statistics, then lambda, then temperatures."""
        batch = await self._samples.get_many(sample_ids)
        intake = sort_out(batch, await self._samples.rivals(batch))
        await note_alike(state, self._samples, intake.adds)
        step = await self._learning.propose(state, intake.adds, [], intake.dropped, bulk=True)
        brought = await self._brought_back(intake.adds)
        chosen = {
            task: await asyncio.to_thread(_begun, state.tasks[task], first, brought.get(task))
            for task, first in step.candidates.items()
        }
        await self._recovery.seat_golden(state)
        candidates = {}
        for task, (paired, temperature) in chosen.items():
            proposal = state.tasks[task].propose_settings(temperature=temperature)
            candidates[task] = replace(proposal, paired=without_live(paired, step.candidates[task].paired))
        step = replace(step, kind=VersionKind.BOOTSTRAP, candidates=candidates)
        version, report = await self._learning.run(state, step)
        if version is None:
            raise RuntimeError(f"the first version was refused: {report.reasons}")
        self._learning.state = state
        return version

    async def _brought_back(self, adds: Sequence[Sample]) -> dict[str, tuple[float, float]]:
        """Lambda and temperature by task, where all its samples come out of one export, which says them."""
        sources: dict[str, set[str | None]] = {}
        for sample in adds:
            sources.setdefault(sample.task, set()).add(sample.import_id)
        imports = await self._samples.imports([id for ids in sources.values() for id in ids if id is not None])
        single = {task: imports.get(next(iter(ids)) or "") for task, ids in sources.items() if len(ids) == 1}
        return {
            task: (one.regularisation, one.temperature)
            for task, one in single.items()
            if one is not None and one.regularisation is not None and one.temperature is not None
        }

    def is_overdue(self) -> bool:
        """Whether lambda has waited for a quiet moment too long."""
        state = self._learning.state
        return state is not None and any(is_due(learner, OVERDUE) for learner in state.tasks.values())

    async def maintain(self, stop: Callable[[], bool]) -> bool:
        """Lambda and temperatures follow the store; returns whether a version came of it."""
        state = self._learning.state
        if state is None:
            return False
        candidates: dict[str, Proposal] = {}
        for name, model in state.tasks.items():
            if not is_due(model):
                continue
            choice = await asyncio.to_thread(choose_regularisation, model, stop)
            if choice is None:
                continue
            # Noted whatever the gate says of it: a lambda that was refused is not tried again at every quiet moment.
            noted = replace(model.regularisation, samples=choice.samples)
            model.apply(model.propose_settings(regularisation=noted))
            temperature: float | None = await asyncio.to_thread(choose_temperature, model)
            if temperature is not None and abs(temperature / model.temperature - 1) <= _TEMPERATURE_STEP:
                temperature = None
            if temperature is not None or choice.value != model.head.regularisation:
                candidates[name] = await asyncio.to_thread(
                    model.propose_settings, regularisation=choice, temperature=temperature
                )
        if not candidates:
            return False
        step = Step(VersionKind.HEAD, "regularisation", candidates)
        version, _ = await self._learning.run(state, step)
        return version is not None

    async def seat_golden(self) -> None:
        """Golden samples that came since the start take their seats."""
        if self._learning.state is not None:
            await self._recovery.seat_golden(self._learning.state)


def _begun(model: TaskModel, first: Proposal, brought: tuple[float, float] | None) -> tuple[PairedScores, float]:
    """Takes a task's first samples over, then a lambda; returns how the head does, and the temperature that fits it.

    An empty state has nothing to lose: after a failure it is dropped whole.
    """
    model.apply(first)
    choice = choose_regularisation(model) if brought is None else RegularisationChoice(brought[0], model.samples)
    proposal = model.propose_settings(regularisation=choice)
    model.apply(proposal)
    return proposal.paired, choose_temperature(model) if brought is None else brought[1]

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
from worker.model.candidate import Candidate, without_live
from worker.model.hyperparameters import OVERDUE, choose_regularisation, choose_temperature, is_due
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
        candidates: dict[str, Candidate] = {}
        temperatures: dict[str, float] = {}
        brought = await self._brought_back(intake.adds)
        for name, first in step.candidates.items():
            learner = state.tasks[name]
            await asyncio.to_thread(first.commit)
            if name in brought:
                value, learner.regularisation_chosen_at = brought[name][0], learner.samples
            else:
                found = await asyncio.to_thread(choose_regularisation, learner)
                value = found or learner.head.regularisation
            chosen = await asyncio.to_thread(learner.propose_regularisation, value)
            await asyncio.to_thread(chosen.commit)  # an empty state has nothing to lose: a failure drops it whole
            judged = without_live(chosen.judged, first.judged)
            candidates[name] = replace(
                chosen, judged=judged, novelty=learner.novelty, commit=_nothing, discard=_nothing
            )
            if name in brought:
                temperatures[name] = brought[name][1]
            else:
                temperatures[name] = await asyncio.to_thread(choose_temperature, learner)
        await self._recovery.seat_golden(state)
        step = replace(step, kind=VersionKind.BOOTSTRAP, candidates=candidates, temperatures=temperatures)
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
        candidates: dict[str, Candidate] = {}
        temperatures: dict[str, float] = {}
        for name, learner in state.tasks.items():
            if not is_due(learner):
                continue
            value = await asyncio.to_thread(choose_regularisation, learner, stop)
            if value is None:
                continue
            if value != learner.head.regularisation:
                candidates[name] = await asyncio.to_thread(learner.propose_regularisation, value)
            chosen = await asyncio.to_thread(choose_temperature, learner)
            if abs(chosen / learner.temperature - 1) > _TEMPERATURE_STEP:
                temperatures[name] = chosen
        if not candidates and not temperatures:
            return False
        step = Step(VersionKind.HEAD, "regularisation", candidates, temperatures=temperatures)
        version, _ = await self._learning.run(state, step)
        return version is not None

    async def seat_golden(self) -> None:
        """Golden samples that came since the start take their seats."""
        if self._learning.state is not None:
            await self._recovery.seat_golden(self._learning.state)


def _nothing() -> None:
    return

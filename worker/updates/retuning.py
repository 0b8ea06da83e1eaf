"""Lambda, words and temperature follow the store as it grows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import structlog

from pawl.domain.versions import VersionKind
from worker.model.hyperparameters import OVERDUE, choose, is_due
from worker.model.proposal import Proposal
from worker.updates.step import Step
from worker.updates.step_runner import StepRunner

log = structlog.get_logger(__name__)
_TEMPERATURE_STEP = 0.1
"""Relative change of a temperature that is worth a version."""


class Retuning:
    """Chooses lambda, words and temperature again."""

    def __init__(self, runner: StepRunner) -> None:
        self._runner = runner

    def is_overdue(self) -> bool:
        """Whether lambda has waited for a quiet moment too long."""
        state = self._runner.state
        return state is not None and any(is_due(model, OVERDUE) for model in state.tasks.values())

    async def maintain(self, stop: Callable[[], bool]) -> bool:
        """Chooses where the store has grown enough, unless `stop` says so; returns whether a version came of it."""
        state = self._runner.state
        if state is None:
            return False
        proposals: dict[str, Proposal] = {}
        for task, model in state.tasks.items():
            if not is_due(model):
                continue
            chosen = await asyncio.to_thread(choose, model, stop)
            if chosen is None:
                continue
            self._runner.mark_chosen(task)  # whatever the gate says of it: a refused lambda is not tried at once again
            # After `mark_chosen`, which is a change of the model: a proposal made before it could not be applied.
            present = model.hyperparameters
            if abs(chosen.temperature / present.temperature - 1) <= _TEMPERATURE_STEP:
                chosen = replace(chosen, temperature=present.temperature)
            if chosen != present:
                proposals[task] = await asyncio.to_thread(model.propose_settings, chosen)
        if not proposals:
            return False
        before = {task: state.tasks[task].stacking.words for task in proposals}
        version, _ = await self._runner.run(state, Step(VersionKind.HEAD, "regularisation", proposals))
        for task, proposal in proposals.items() if version is not None else ():
            words = proposal.hyperparameters.stacking.words
            if words != before[task]:
                log.info("words_changed", task=task, before=before[task], words=words)
        return version is not None

"""What a version says was chosen for its heads: lambda and temperature."""

from __future__ import annotations

import asyncio

from pawl.domain.versions import Version
from worker.model.proposal import RegularisationChoice
from worker.state.learner_state import LearnerState


async def retune(state: LearnerState, version: Version) -> None:
    """Lambda and temperatures as the version has them: the ledger tells of samples alone."""
    chosen = number_map(version, "regularisation")
    at = number_map(version, "regularisation_chosen_at")
    for task, learner in state.tasks.items():
        value = chosen.get(task, learner.head.regularisation)
        choice = RegularisationChoice(value, int(at.get(task, learner.regularisation_chosen_at)))
        temperature = version.heads[task].temperature if task in version.heads else None
        proposal = await asyncio.to_thread(learner.propose_settings, regularisation=choice, temperature=temperature)
        await asyncio.to_thread(learner.apply, proposal)


def number_map(version: Version, key: str) -> dict[str, float]:
    """One of the numbers, by task."""
    values = version.metrics.get(key, {})
    return {str(task): float(value) for task, value in values.items()}

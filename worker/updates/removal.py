"""Steps that only take samples out of the heads."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from pawl.domain.quarantine import Hold
from pawl.domain.samples import Sample
from pawl.domain.versions import VersionKind
from worker.state.learner_state import LearnerState
from worker.updates.step import Step

if TYPE_CHECKING:
    from worker.updates.head_update import Learning

log = structlog.get_logger(__name__)


async def take_out(learning: Learning, state: LearnerState) -> None:
    """After a roll-back: its artefacts are older than some retractions or changes of labels, the state is not, so the
    state serves.
    """
    candidates = {name: await asyncio.to_thread(model.propose_settings) for name, model in state.tasks.items()}
    reason = "retracted samples or former labels were back after a roll-back"
    await learning.run(state, Step(VersionKind.HEAD, "retraction", candidates, forced=reason))


async def pull(learning: Learning, state: LearnerState, learned: list[Sample], why: Mapping[str, Hold]) -> bool:
    """Takes learned samples out again, into quarantine; whether the gate agreed."""
    step = await learning.propose(state, [], learned, {})
    version, report = await learning.run(state, replace(step, trigger="quarantine", pulls=why))
    if version is None:
        log.warning("samples_not_pulled", samples=len(why), reasons=list(report.reasons))
    return version is not None

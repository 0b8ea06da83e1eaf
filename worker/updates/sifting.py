"""A refused step without what does harm in it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from pawl.domain.gate_reports import GateReport
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import REPLACED, Sample
from pawl.settings import Settings
from worker.model.proposal import Proposal
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.baseline import Standard, standard_of
from worker.updates.bisection import Batch, Search, harm
from worker.updates.step import Step

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Sifted:
    """What is left of a step, which quarantines the rest (None: nothing is left), and why that is kept out."""

    step: Step | None
    holds: dict[str, Hold]


async def sift(
    state: LearnerState,
    step: Step,
    report: GateReport,
    standards: Mapping[str, Standard],
    removes_of: Callable[[Sequence[Sample]], dict[str, Sample]],
    recovery: Recovery,
    settings: Settings,
) -> Sifted:
    """Searches each task's part of a refused step.

    A sample that a newer label had overtaken stays queued where that one does harm. What is wrong with a candidate as
    such, its size, is no sample's: then nothing of it is learned.
    """
    candidates: dict[str, Proposal] = {}
    taken: list[Sample] = []
    whole = {one.id: harm(one.task, report) for one in step.adds}
    harmful: dict[str, str] = {}
    for task, change in step.changes.items() if report.charges else ():
        standard = standards.get(task)
        if standard is None:
            standard = await asyncio.to_thread(standard_of, state.task(task))
        own = [sample for sample in step.adds if sample.task == task]
        charged = {*report.charges.get(task, ()), *step.charged.get(task, ())}
        found = await Search(state, Batch(task, own, change, removes_of, standard, charged), recovery, settings).run()
        log.info("batch_searched", task=task, taken=len(found.taken), harmful=len(found.harmful), tried=found.trials)
        taken += found.taken
        harmful |= found.harmful
        if found.candidate is not None:
            candidates[task] = found.candidate
    holds = {id: Hold(QuarantineKind.GATE, harmful.get(id, why)) for id, why in whole.items()}
    if not candidates:
        return Sifted(None, holds)
    kept = {sample.id for sample in taken}
    final = replace(
        step,
        candidates=candidates,
        adds=taken,
        removes={old: f"{REPLACED}{new.id}" for new in taken for old in removes_of([new])},
        dropped={id: why for id, why in step.dropped.items() if why.removeprefix(REPLACED) in kept},
        pulls={id: hold for id, hold in holds.items() if id not in kept},
        charged={task: report.charges.get(task, ()) for task in candidates},
        changes={},
    )
    return Sifted(final, holds)

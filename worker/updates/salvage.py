"""A refused step without what does harm in it."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

import structlog

from pawl.domain.gate_reports import GateReport
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import Sample
from pawl.settings import Settings
from worker.model.proposal import Proposal
from worker.screening.conflict_resolution import Resolution
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_state import LearnerState
from worker.updates.baseline import baseline_of
from worker.updates.batches import Batch
from worker.updates.bisection import Bisection, RefusedBatch
from worker.updates.step import Step, harm, of_task

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Salvaged:
    """A step with what does no harm, which quarantines the rest (None: nothing is left), and why that is held."""

    step: Step | None
    holds: dict[str, Hold]


async def salvage(
    state: LearnerState,
    step: Step,
    report: GateReport,
    batch: Batch,
    resolution: Resolution,
    learned: LearnedSamples,
    settings: Settings,
) -> Salvaged:
    """Bisects each task's part of a refused step.

    A sample that a newer label has overtaken stays queued where the newer one does harm. Nothing is learned where no
    sample is at fault but the candidate as such, by its size.
    """
    proposals: dict[str, Proposal] = {}
    taken: list[Sample] = []
    whole = {sample.id: harm(sample.task, report) for sample in step.adds}
    harmful: dict[str, str] = {}
    for task, change in step.changes.items() if report.charges else ():
        baseline = batch.baselines.get(task)
        if baseline is None:
            baseline = await asyncio.to_thread(baseline_of, state.model(task))
        charged = {*report.charges.get(task, ()), *step.charged.get(task, ())}
        refused = RefusedBatch(task, of_task(step.adds, task), change, resolution, baseline, charged)
        result = await Bisection(state, refused, learned, settings).run()
        counts = {"taken": len(result.taken), "harmful": len(result.harmful), "tried": result.trials}
        log.info("batch_searched", task=task, **counts)
        taken += result.taken
        harmful |= result.harmful
        if result.proposal is not None:
            proposals[task] = result.proposal
    holds = {id: Hold(QuarantineKind.GATE, harmful.get(id, why)) for id, why in whole.items()}
    if not proposals:
        return Salvaged(None, holds)
    kept = {sample.id for sample in taken}
    rest = replace(
        step,
        proposals=proposals,
        adds=taken,
        replaced=resolution.replacements(taken),
        dropped={id: newer for id, newer in step.dropped.items() if newer in kept},
        pulls={id: hold for id, hold in holds.items() if id not in kept},
        charged={task: report.charges.get(task, ()) for task in proposals},
        changes={},
    )
    return Salvaged(rest, holds)

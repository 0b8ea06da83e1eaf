"""What one batch of samples becomes: conflicts are resolved, label noise is held, and the rest becomes a version.

The walk of a sample through the learner is `HeadUpdate._learn_batch`, read from top to bottom.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

import structlog

from pawl.domain.errors import ArtefactCorrupt, ArtefactsGone
from pawl.domain.gate_reports import GateReport
from pawl.domain.quarantine import Hold, QuarantineKind
from pawl.domain.samples import Sample
from pawl.domain.versions import VersionKind
from pawl.settings import Settings
from worker.model.change import LabelledFeatures
from worker.release.publisher import Publisher
from worker.release.rollback_monitor import RollbackMonitor
from worker.release.words_monitor import WordsMonitor
from worker.screening.conflict_resolution import Resolution, resolve_conflicts
from worker.screening.observations import NoiseVerdict
from worker.screening.screener import Screener
from worker.screening.truncation import find_alike
from worker.state.learned_samples import LearnedSamples
from worker.state.learner_ports import LearnerPorts
from worker.updates.baseline import baseline_of
from worker.updates.batches import Batch, BatchBuilder, split_batches
from worker.updates.bisection import Bisected, Bisection, RefusedBatch
from worker.updates.step import Step, harm, of_task
from worker.updates.step_runner import StepRunner

Features = Mapping[str, LabelledFeatures]
WORDS_FAILED_EVENT = "words_failed"
log = structlog.get_logger(__name__)


class HeadUpdate:
    """Turns samples into versions of the heads. One coroutine drives it."""

    def __init__(
        self,
        runner: StepRunner,
        ports: LearnerPorts,
        publisher: Publisher,
        learned: LearnedSamples,
        settings: Settings,
    ) -> None:
        self._runner = runner
        self._samples = ports.samples
        self._publisher = publisher
        self._learned = learned
        self._settings = settings
        self._screener = Screener(ports.samples, settings)
        self._monitor = RollbackMonitor(settings)
        self._words_monitor = WordsMonitor(settings)
        self._events = ports.ledger
        self._batches = BatchBuilder(ports, learned)

    @property
    def protected(self) -> frozenset[int]:
        """Versions whose artefacts must stay, to roll back to."""
        return self._monitor.protected

    async def learn(self, sample_ids: Sequence[str], *, alone: bool = False) -> None:
        """Learns what of these is to be learned. Afterwards each is in a final state, or an error says why not; but of
        an import larger than is judged at once a part stays queued.

        What was imported with these is learned with them, unless they are to be learned `alone`.
        Raises `ParentNotLive` when another learner was faster; call again.
        """
        for part in split_batches(await self._samples.get_many(sample_ids)):
            await self._learn_batch(await self._batches.complete(self._runner.live, part, alone=alone))

    async def _learn_batch(self, batch: Batch) -> None:
        rivals = await self._samples.rivals(batch.samples)
        resolution = resolve_conflicts(batch.samples, rivals)
        if resolution.retractions:
            await self._retract(resolution.retractions)
        # Before the features: they say by `alike` who may evaluate (`LearnerState.examples`).
        self._runner.mark_alike(await find_alike(self._runner.live, self._samples, resolution.adds))
        begun = time.perf_counter()
        examples = await self._learned.features(self._runner.live, resolution.adds)
        embed_ms = (time.perf_counter() - begun) * 1e3
        features = {example.sample_id: example for example in examples}
        around = [*batch.samples, *rivals]
        verdict = await self._screener.screen(self._runner.live, resolution, around, features)
        adds = [sample for sample in resolution.adds if sample.id not in verdict.holds]
        await self._watch_words(adds, features)
        if await self._watch(adds, features) or await self._pull(verdict.pulls):
            # The head that had nothing against these labels does not serve any more: they are screened by the new one.
            # `alone`: these are read already, as a whole; the heads they are measured with are other ones now.
            await self.learn([sample.id for sample in batch.samples], alone=True)
            return
        # What a held label would have overtaken stays queued, for the next sweep.
        dropped = {sample_id: newer for sample_id, newer in resolution.dropped.items() if newer not in verdict.holds}
        if adds:
            resolution = replace(resolution, adds=adds, dropped=dropped)
            step = await self._propose(resolution, verdict, features)
            step = replace(step, timings={**step.timings, "embed_ms": step.timings["embed_ms"] + embed_ms})
            await self._run_batch(batch, resolution, batch.measured(step))
        elif dropped:
            await self._samples.settle_replaced(dropped)

    async def _retract(self, samples: Sequence[Sample]) -> None:
        """A client's right to take a sample back does not depend on what it does to the accuracy."""
        reasons = {sample.id: sample.reason or "retracted by the client" for sample in samples}
        state = self._runner.live
        step = await self._runner.propose(state, [], samples)
        await self._runner.run(state, replace(step, trigger="retraction", removes=reasons, forced="retraction"))

    async def _watch(self, arriving: Sequence[Sample], features: Features) -> bool:
        """Compares the live version with earlier ones on these labels and rolls back one that is worse; true then."""
        advice = await self._monitor.observe(self._runner.live, arriving, features)
        if advice is None:
            return False
        try:
            await self._publisher.roll_back(advice.number, advice.reason)
        except (ArtefactsGone, ArtefactCorrupt):
            log.exception("cannot_roll_back", why=advice.reason)
            self._monitor.forget()
            return False
        await self._runner.catch_up()
        return True

    async def _watch_words(self, arriving: Sequence[Sample], features: Features) -> None:
        """Compares answers by words with those of both heads; where they are worse than promised they are silenced."""
        reasons = await self._words_monitor.observe(self._runner.live, arriving, features)
        if not reasons:
            return
        log.warning(WORDS_FAILED_EVENT, reasons=reasons)
        self._runner.mark_words_failed(reasons)
        state, reason = self._runner.live, "; ".join(f"{task}: {why}" for task, why in reasons.items())
        proposals = {task: await asyncio.to_thread(state.tasks[task].propose_settings) for task in reasons}
        # Forced: the heads are what they were, and nothing the gate could find is a reason to let words go on.
        step = Step(VersionKind.HEAD, "words", proposals, forced=reason, reason=reason)
        version, _ = await self._runner.run(state, step)
        number = version.number if version is not None else None
        await self._events.append_event(WORDS_FAILED_EVENT, {"tasks": reasons, "version": number})

    async def _pull(self, pulls: Mapping[str, Hold]) -> bool:
        """Takes learned samples out of the heads, into quarantine; false where there are none or the gate refuses."""
        if not pulls:
            return False
        state = self._runner.live
        step = await self._runner.propose(state, [], await self._samples.get_many(list(pulls)))
        version, report = await self._runner.run(state, replace(step, trigger="quarantine", pulls=pulls))
        if version is None:
            log.warning("samples_not_pulled", samples=len(pulls), reasons=list(report.reasons))
        return version is not None

    async def _propose(self, resolution: Resolution, verdict: NoiseVerdict, features: Features) -> Step:
        adds, leaving = resolution.adds, list(resolution.removes(resolution.adds).values())
        step = await self._runner.propose(self._runner.live, adds, leaving, features=features, doubts=verdict.doubts)
        return replace(step, replaced=resolution.replacements(adds), dropped=resolution.dropped)

    async def _run_batch(self, batch: Batch, resolution: Resolution, step: Step) -> None:
        """Judges a batch as a whole, against the version before it. Where that is refused, what of it does no harm
        becomes one version, in whose transaction the rest goes to quarantine.
        """
        state, adds = self._runner.live, step.adds
        version, report = await self._runner.run(state, step, last=len(adds) == 1)
        if version is not None or len(adds) == 1:
            return
        results: dict[str, Bisected] = {}
        for task, change in step.changes.items() if report.charges else ():  # else no sample is at fault, but the size
            charged = {*report.charges.get(task, ()), *step.charged.get(task, ())}
            baseline = batch.baselines.get(task)
            if baseline is None:
                baseline = await asyncio.to_thread(baseline_of, state.model(task))
            refused = RefusedBatch(task, of_task(adds, task), change, resolution, baseline, charged)
            results[task] = await Bisection(state, refused, self._learned, self._settings).run()
        reasons = {sample.id: harm(sample.task, report) for sample in adds}
        for result in results.values():
            reasons |= result.harmful
        holds = {sample_id: Hold(QuarantineKind.GATE, reason) for sample_id, reason in reasons.items()}
        rest = _harmless(step, report, resolution, results, holds)
        # Where a version comes of the rest, its transaction holds the others; else that is written here, or the sweep
        # would bring the whole batch again.
        if not rest.proposals or (await self._runner.run(state, rest, last=False))[0] is None:
            await self._samples.hold(holds, dict(step.doubts))


def _harmless(
    step: Step, report: GateReport, resolution: Resolution, results: Mapping[str, Bisected], holds: Mapping[str, Hold]
) -> Step:
    """A refused step with what does no harm, which puts the rest into quarantine.

    A sample that a newer label has overtaken stays queued where the newer one does harm.
    """
    taken = [sample for result in results.values() for sample in result.taken]
    kept = {sample.id for sample in taken}
    proposals = {task: result.proposal for task, result in results.items() if result.proposal is not None}
    return replace(
        step,
        proposals=proposals,
        adds=taken,
        replaced=resolution.replacements(taken),
        dropped={sample_id: newer for sample_id, newer in step.dropped.items() if newer in kept},
        pulls={sample_id: hold for sample_id, hold in holds.items() if sample_id not in kept},
        charged={task: report.charges.get(task, ()) for task in proposals},
        changes={},
    )

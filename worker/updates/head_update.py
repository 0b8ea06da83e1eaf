"""One learning step: candidate -> gate -> artefact -> ledger -> commit. A step either becomes a version or leaves no
trace but the report of why not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace

import structlog

from pawl.domain.errors import ArtefactCorrupt, ArtefactsGone
from pawl.domain.gate_reports import GateReport
from pawl.domain.quarantine import Doubt
from pawl.domain.samples import REPLACED, Origin, Sample, SampleState
from pawl.domain.versions import NewVersion, Version, VersionKind
from pawl.ports import Encoder
from pawl.settings import Settings
from worker.model.change import ModelChange
from worker.model.hyperparameters import temperature_of
from worker.model.proposal import Proposal
from worker.release.gate import Evidence, judge
from worker.release.publisher import Publisher
from worker.release.rollback_monitor import Probation
from worker.screening.conflict_resolution import sort_out
from worker.screening.screener import Screening
from worker.screening.truncation import note_alike, read_by_task
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState, Ranked
from worker.state.recovery import Recovery
from worker.updates.batches import Lot, Lots
from worker.updates.bisection import RANK_UPDATE_LIMIT, harm
from worker.updates.draft import draft_of, measured
from worker.updates.removal import pull, take_out
from worker.updates.sifting import sift
from worker.updates.step import Step

log = structlog.get_logger(__name__)


class Learning:
    """Turns samples into versions of the heads.

    Not thread-safe and not re-entrant: one coroutine drives it.
    """

    def __init__(
        self,
        ports: LearnerPorts,
        publisher: Publisher,
        recovery: Recovery,
        settings: Settings,
    ) -> None:
        self._samples = samples = ports.samples
        self._ledger = ledger = ports.ledger
        self._publisher = publisher
        self._recovery = recovery
        self._settings = settings
        self._screening = Screening(samples, settings)
        self._probation = Probation(samples, settings)
        self._lots = Lots(samples, ledger, recovery)
        self._doubts: Mapping[str, Doubt] = {}
        self.state: LearnerState | None = None

    async def catch_up(self, encoder: Encoder | None = None) -> LearnerState | None:
        """Brings the state to the live version, whoever promoted it; None while there is none."""
        live = await self._ledger.live()
        if live is None:
            self.state = None
        while live is not None and (self.state is None or self.state.version != live.number):
            # Taken away while it moves: a state that followed the ledger half-way must not be learned on.
            state, self.state = self.state, None
            self._screening.forget()
            self._probation.forget()
            self._lots.forget()
            encoder = state.encoder if state is not None else encoder
            if state is None or not await self._recovery.follow(state, live):
                state = await self._recovery.open(live, encoder)
            read, live = live, await self._ledger.live()
            if live is None or live.number != read.number:
                continue  # promoted meanwhile: the samples just read may be newer than the version they were read for
            self.state = state
            if live.gate.get("pending_unlearn_count") or live.gate.get("pending_label_changes"):
                await take_out(self, state)
                break
        return self.state

    async def learn(self, sample_ids: Sequence[str], *, alone: bool = False) -> None:
        """Learns what of these is to be learned. Afterwards each is in a final state, or an error says why not; but of
        an import larger than is judged at once a part stays queued.

        What was imported with these is learned with them, unless they are to be learned `alone`.
        Raises `ParentNotLive` when another learner was faster; call again.
        """
        for own in self._lots.split(await self._samples.get_many(sample_ids)):
            if self.state is None:
                raise RuntimeError("there is no version to learn on yet")
            await self._learn_lot(await self._lots.gather(self.state, own, alone=alone))

    async def _learn_lot(self, lot: Lot) -> None:
        state, ids = self.state, [sample.id for sample in lot.samples]
        if state is None:
            raise RuntimeError("there is no version to learn on any more")
        rivals = await self._samples.rivals(lot.samples)
        intake = sort_out(lot.samples, rivals)
        if intake.retractions:
            reasons = {sample.id: sample.reason or "retracted by the client" for sample in intake.retractions}
            step = await self.propose(state, [], intake.retractions, {})
            # A client's right to take a sample back does not depend on what it does to the accuracy.
            await self.run(state, replace(step, trigger="retraction", removes=reasons, forced="retraction"))
        await note_alike(state, self._samples, intake.adds)
        left = await self._screening.screen(state, intake, [*lot.samples, *rivals])
        if await self._rolled_back(state, left.adds):
            await self.learn(ids, alone=True)  # on what serves now
            return
        if left.pulls and await pull(self, state, await self._samples.get_many(list(left.pulls)), left.pulls):
            await self.learn(ids, alone=True)  # the head that had nothing against them had learned what is gone now
            return
        self._doubts = left.doubts
        if left.adds:
            await self._learn(state, lot, left.adds, intake.removes, left.dropped)
        elif left.dropped:
            await self._samples.settle(SampleState.RETRACTED, left.dropped)

    async def _rolled_back(self, state: LearnerState, arriving: Sequence[Sample]) -> bool:
        """Whether the live version failed its probation on these labels and an earlier one serves again."""
        failure = await self._probation.observe(state, arriving)
        self._publisher.protected = self._probation.numbers
        if failure is None:
            return False
        try:
            await self._publisher.roll_back(failure.number, failure.reason)
        except (ArtefactsGone, ArtefactCorrupt):
            log.exception("cannot_roll_back", why=failure.reason)
            self._probation.forget()
            return False
        await self.catch_up()
        return True

    async def _learn(
        self,
        state: LearnerState,
        lot: Lot,
        adds: Sequence[Sample],
        removes_of: Callable[[Sequence[Sample]], dict[str, Sample]],
        dropped: Mapping[str, str],
    ) -> None:
        """Judges a batch as a whole, against the version before it. Where that is refused, what of it does no harm
        becomes one version, in whose transaction the rest goes to quarantine.
        """
        step = await self.propose(state, adds, list(removes_of(adds).values()), dropped)
        step = lot.measured(replace(step, removes=_replaced(adds, removes_of)))
        version, report = await self.run(state, step, last=len(adds) == 1)
        if version is None and len(adds) > 1:
            sifted = await sift(state, step, report, lot.standards, removes_of, self._recovery, self._settings)
            if sifted.step is None or (await self.run(state, sifted.step, last=False))[0] is None:
                await self._samples.hold(sifted.holds, dict(step.doubts))

    async def propose(
        self,
        state: LearnerState,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        dropped: Mapping[str, str],
        *,
        bulk: bool = False,
    ) -> Step:
        """Works out the change of each task's head; nothing moves yet."""
        candidates: dict[str, Proposal] = {}
        changes: dict[str, ModelChange] = {}
        embed = update = 0.0
        for task in sorted({sample.task for sample in (*adds, *removes)}):
            begun = time.perf_counter()
            own_adds, own_removes = _of(adds, task), _of(removes, task)
            change = await self._recovery.change(state, task, own_adds, own_removes)
            embed += time.perf_counter() - begun
            begun = time.perf_counter()
            many = bulk or len(own_adds) + len(own_removes) > RANK_UPDATE_LIMIT
            if not many:
                change = replace(change, corrections=_corrections(own_adds, state.alike))
            changes[task] = change
            proposal = await asyncio.to_thread(state.task(task).propose, change, bulk=many)
            if many and (fitted := await asyncio.to_thread(temperature_of, proposal.paired)):
                proposal = replace(proposal, temperature=fitted)
            candidates[task] = proposal
            update += time.perf_counter() - begun
        imported = bool(adds) and all(sample.origin is Origin.IMPORT for sample in adds)
        kind, trigger = (VersionKind.IMPORT, "import") if imported else (VersionKind.HEAD, "feedback")
        timings = {"embed_ms": embed * 1e3, "update_ms": update * 1e3}
        doubts = {sample.id: self._doubts[sample.id] for sample in adds if sample.id in self._doubts}
        return Step(kind, trigger, candidates, adds, dropped=dropped, doubts=doubts, timings=timings, changes=changes)

    async def run(self, state: LearnerState, step: Step, last: bool = True) -> tuple[Version | None, GateReport]:
        """Judges, writes and promotes one candidate. The state changes only when the version is live."""
        ranked = await asyncio.to_thread(state.ranked, step.candidates)
        written, report = await self.written(state, step, ranked)
        if not report.accepted:
            harmful = {sample.id: harm(sample.task, report) for sample in step.adds} if last else {}
            await self._publisher.refuse(written, report, step.change(), harmful)
            return None, report
        promoted = await self._publisher.promote(written, report, step.change())
        # The version is live: from here the state must follow, so nothing may stop it.
        await asyncio.shield(asyncio.to_thread(step.apply, state.tasks))
        state.novelty, state.tasks = step.staying(ranked), step.staying(state.tasks)
        self._note(state, promoted, step)
        return promoted, report

    async def written(
        self, state: LearnerState, step: Step, ranked: Mapping[str, Ranked]
    ) -> tuple[NewVersion, GateReport]:
        """Writes a candidate and judges it; nothing serves it yet."""
        begun = time.perf_counter()
        written = await self._publisher.write(draft_of(state, step, ranked))
        wrote = time.perf_counter()
        evidence = {
            task: Evidence(
                candidate.paired,
                state.tasks[task].temperature,
                candidate.temperature,
                [sample.served_label for sample in _of(step.adds, task)],
            )
            for task, candidate in step.candidates.items()
        }
        try:
            report = await asyncio.to_thread(
                judge,
                evidence,
                self._settings,
                size_bytes=written.size_bytes,
                forced=step.forced,
                charged=step.charged,
            )
        except Exception:
            await self._publisher.discard(written)
            raise
        now = {"write_ms": (wrote - begun) * 1e3, "gate_ms": (time.perf_counter() - wrote) * 1e3}
        timings = {name: round(value, 2) for name, value in {**step.timings, **now}.items()}
        read = await asyncio.to_thread(read_by_task, state, step.adds)
        metrics = {**written.metrics, **measured(report), "reading": read, "timings": timings}
        return replace(written, metrics=metrics), report

    def _note(self, state: LearnerState, version: Version, step: Step) -> None:
        state.version, state.watermark = version.number, version.watermark
        state.unsaved += step.moved
        state.encoder_folder = self._publisher.encoder_folder(version.number)  # the parent's may be retired soon
        if step.label is not None:  # what was seen names labels that are no more
            self._screening.forget()
            self._probation.forget()
            self._lots.forget()


def _corrections(samples: Sequence[Sample], alike: Collection[str]) -> frozenset[str]:
    return frozenset(sample.id for sample in samples if sample.origin is Origin.FEEDBACK and sample.id not in alike)


def _of(samples: Sequence[Sample], task: str) -> list[Sample]:
    return [sample for sample in samples if sample.task == task]


def _replaced(adds: Sequence[Sample], removes_of: Callable[[Sequence[Sample]], dict[str, Sample]]) -> dict[str, str]:
    return {old: f"{REPLACED}{new.id}" for new in adds for old in removes_of([new])}

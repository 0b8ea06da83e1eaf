"""One learning step: candidate -> gate -> artefact -> ledger -> commit. A step either becomes a version or leaves no
trace but the report of why not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import structlog

from app.core.domain.errors import ArtefactCorrupt, ArtefactsGone
from app.core.domain.gate_reports import GateReport
from app.core.domain.quarantine import Doubt
from app.core.domain.samples import REPLACED, Origin, Sample, SampleState
from app.core.domain.versions import Json, NewVersion, Version, VersionKind
from app.core.ports import Encoder, SampleStore, VersionLedger
from app.core.settings import Settings
from worker.bisecting import least_opposed_first
from worker.gate import Evidence, judge
from worker.intake import sort_out
from worker.probation import Probation
from worker.proposals import Candidate, Standard, measured_by, standard_of
from worker.publisher import Draft, Publisher
from worker.recovery import Recovery
from worker.screening import Screening
from worker.selection import temperature_of
from worker.state import LearnerState, Ranked
from worker.steps import Step
from worker.withdrawal import pull, take_out

RANK_UPDATE_LIMIT = 512
"""Samples beyond which a refit from the statistics is cheaper than a rank-k update."""
log = structlog.get_logger(__name__)


class Learning:
    """Turns samples into versions of the heads.

    Not thread-safe and not re-entrant: one coroutine drives it.
    """

    def __init__(
        self,
        samples: SampleStore,
        ledger: VersionLedger,
        publisher: Publisher,
        recovery: Recovery,
        settings: Settings,
    ) -> None:
        self._samples = samples
        self._ledger = ledger
        self._publisher = publisher
        self._recovery = recovery
        self._settings = settings
        self._screening = Screening(samples, settings)
        self._probation = Probation(samples, settings)
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

    async def learn(self, sample_ids: Sequence[str]) -> None:
        """Learns what of these is to be learned. Afterwards each is in a final state, or an error says why not.

        Raises `ParentNotLive` when another learner was faster; call again.
        """
        state = self.state
        if state is None:
            raise RuntimeError("there is no version to learn on yet")
        batch = await self._samples.get_many(sample_ids)
        rivals = await self._samples.rivals(batch)
        intake = sort_out(batch, rivals)
        if intake.retractions:
            reasons = {sample.id: sample.reason or "retracted by the client" for sample in intake.retractions}
            step = await self.propose(state, [], intake.retractions, {})
            # A client's right to take a sample back does not depend on what it does to the accuracy.
            await self.run(state, replace(step, trigger="retraction", removes=reasons, forced="retraction"))
        left = await self._screening.screen(state, intake, [*batch, *rivals])
        if await self._rolled_back(state, left.adds):
            await self.learn(sample_ids)  # on what serves now
            return
        if left.pulls and await pull(self, state, await self._samples.get_many(list(left.pulls)), left.pulls):
            await self.learn(sample_ids)  # the head that had nothing against them had learned what is gone now
            return
        self._doubts = left.doubts
        if left.adds:
            await self._learn(state, left.adds, intake.removes, left.dropped)
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
        adds: Sequence[Sample],
        removes_of: Callable[[Sequence[Sample]], dict[str, Sample]],
        dropped: Mapping[str, str],
        standards: Mapping[str, Standard] | None = None,
    ) -> None:
        """Learns a batch; where the gate refuses it, its halves, so that only what does harm is left out.

        The parts of a refused batch are held to the answers from before it (`standards`, by task) as well.
        """
        removes = removes_of(adds)
        step = await self.propose(state, adds, list(removes.values()), dropped)
        step = replace(step, removes=_replaced(adds, removes_of))
        if standards is not None:
            candidates = {task: measured_by(standards[task], one) for task, one in step.candidates.items()}
            step = replace(step, candidates=candidates)
        version, report = await self.run(state, step, last=len(adds) == 1)
        if version is None and len(adds) > 1:
            new = {sample.id for sample in adds}
            if standards is None:
                standards = {task: standard_of(one.judged, new) for task, one in step.candidates.items()}
                adds = await least_opposed_first(state, self._samples, adds)
            middle = len(adds) // 2
            await self._learn(state, adds[:middle], removes_of, {}, standards)
            await self._learn(state, adds[middle:], removes_of, {}, standards)
            # The dropped stay queued: whether a newer label stands is known only now, so the next sweep decides.
        elif version is None:
            log.warning("sample_quarantined", sample=adds[0].id, reasons=list(report.reasons))

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
        candidates: dict[str, Candidate] = {}
        temperatures: dict[str, float] = {}
        embed = update = 0.0
        for task in sorted({sample.task for sample in (*adds, *removes)}):
            begun = time.perf_counter()
            own_adds, own_removes = _of(adds, task), _of(removes, task)
            change = await self._recovery.change(state, task, own_adds, own_removes)
            embed += time.perf_counter() - begun
            begun = time.perf_counter()
            many = bulk or len(own_adds) + len(own_removes) > RANK_UPDATE_LIMIT
            if not many:
                change = replace(change, corrections=_corrections(own_adds))
            candidates[task] = await asyncio.to_thread(state.task(task).propose, change, bulk=many)
            if many and (fitted := await asyncio.to_thread(temperature_of, candidates[task].judged)):
                temperatures[task] = fitted
            update += time.perf_counter() - begun
        imported = bool(adds) and all(sample.origin is Origin.IMPORT for sample in adds)
        kind, trigger = (VersionKind.IMPORT, "import") if imported else (VersionKind.HEAD, "feedback")
        timings = {"embed_ms": embed * 1e3, "update_ms": update * 1e3}
        doubts = {sample.id: self._doubts[sample.id] for sample in adds if sample.id in self._doubts}
        return Step(kind, trigger, candidates, adds, {}, dropped, {}, doubts, None, temperatures, timings)

    async def run(self, state: LearnerState, step: Step, last: bool = True) -> tuple[Version | None, GateReport]:
        """Judges, writes and promotes one candidate. On any failure the proposals are taken back."""
        try:
            ranked = await asyncio.to_thread(state.ranked, step.candidates)
            written, report = await self.written(state, step, ranked)
            if not report.accepted:
                reason = "; ".join(report.reasons)[:500]
                harmful = {sample.id: reason for sample in step.adds} if last else {}
                await self._publisher.refuse(written, report, harmful, step.doubts)
                step.finish(commit=False)
                return None, report
            promoted = await self._publisher.promote(written, report, step.change())
        except BaseException:
            step.finish(commit=False)
            raise
        # The version is live: from here the state must follow, so nothing may stop the commits.
        await asyncio.shield(asyncio.to_thread(step.finish, commit=True))
        state.novelty, state.tasks = step.staying(ranked), step.staying(state.tasks)
        self._note(state, promoted, step)
        return promoted, report

    async def written(
        self, state: LearnerState, step: Step, ranked: Mapping[str, Ranked]
    ) -> tuple[NewVersion, GateReport]:
        """Writes a candidate and judges it; nothing serves it yet."""
        temperatures = {name: step.temperatures.get(name, one.temperature) for name, one in state.tasks.items()}
        begun = time.perf_counter()
        written = await self._publisher.write(self._draft(state, step, temperatures, ranked))
        wrote = time.perf_counter()
        evidence = {
            task: Evidence(
                candidate.judged,
                state.tasks[task].temperature,
                temperatures[task],
                [sample.served_label for sample in _of(step.adds, task)],
            )
            for task, candidate in step.candidates.items()
        }
        try:
            report = await asyncio.to_thread(
                judge, evidence, self._settings, size_bytes=written.size_bytes, forced=step.forced
            )
        except Exception:
            await self._publisher.discard(written)
            raise
        judged = time.perf_counter()
        timings = {name: round(value, 2) for name, value in step.timings.items()}
        timings |= {"write_ms": round((wrote - begun) * 1e3, 2), "gate_ms": round((judged - wrote) * 1e3, 2)}
        return replace(written, metrics={**written.metrics, **_measured(report), "timings": timings}), report

    def _draft(
        self, state: LearnerState, step: Step, temperatures: Mapping[str, float], ranked: Mapping[str, Ranked]
    ) -> Draft:
        values = {name: one.head.regularisation for name, one in state.tasks.items()}
        chosen: Json = {
            "regularisation": values | {name: one.regularisation for name, one in step.candidates.items()},
            "regularisation_chosen_at": {name: one.regularisation_chosen_at for name, one in state.tasks.items()},
        }
        return Draft(
            kind=step.kind,
            trigger=step.trigger,
            parent=state.version or None,
            encoder_folder=state.encoder_folder,
            encoder_digest=state.encoder.digest,
            heads=step.staying(state.heads(dict(step.candidates), dict(temperatures))),
            features=state.features,
            novelty=step.staying({task: one.novelty for task, one in ranked.items()}),
            settings=chosen | self._settings.model_dump(include={"young_class_size", "prior_correction"}),
            made_with=state.made_with,
            watermark=max([state.watermark, *(sample.seq for sample in step.adds)]),
            samples_new=len(step.adds),
            metrics=chosen
            | {"encoder_watermark": state.encoder_watermark}
            | ({"label_change": step.label.id} if step.label else {}),
            reason=step.label.reason if step.label else None,
        )

    def _note(self, state: LearnerState, version: Version, step: Step) -> None:
        state.version, state.watermark = version.number, version.watermark
        state.unsaved += step.moved
        state.encoder_folder = self._publisher.encoder_folder(version.number)  # the parent's may be retired soon
        for name, temperature in step.temperatures.items():
            state.tasks[name].temperature = temperature
        if step.label is not None:  # what was seen names labels that are no more
            self._screening.forget()
            self._probation.forget()


def _corrections(samples: Sequence[Sample]) -> frozenset[str]:
    return frozenset(sample.id for sample in samples if sample.origin is Origin.FEEDBACK)


def _of(samples: Sequence[Sample], task: str) -> list[Sample]:
    return [sample for sample in samples if sample.task == task]


def _replaced(adds: Sequence[Sample], removes_of: Callable[[Sequence[Sample]], dict[str, Sample]]) -> dict[str, str]:
    return {old: f"{REPLACED}{new.id}" for new in adds for old in removes_of([new])}


def _measured(report: GateReport) -> Json:
    return {
        "accuracy": {task: one.overall.candidate for task, one in report.tasks.items() if one.overall.items},
        "prequential": {task: one.prequential for task, one in report.tasks.items() if one.prequential is not None},
        "ece": {task: one.ece_candidate for task, one in report.tasks.items() if one.ece_candidate is not None},
    }

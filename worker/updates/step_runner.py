"""Runs steps: propose, write, gate, publish, apply. The one owner of the learner's state.

A step either becomes a version, and the state follows, or leaves no trace but the report of why not.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from pawl.domain.gate_reports import GateReport
from pawl.domain.quarantine import Doubt
from pawl.domain.samples import Origin, Sample
from pawl.domain.versions import LedgerChange, NewVersion, Version, VersionKind
from pawl.ports import Encoder, VersionLedger
from pawl.settings import Settings
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.hyperparameters import temperature_of
from worker.model.proposal import Proposal
from worker.release.gate import Evidence, judge
from worker.release.publisher import Publisher
from worker.screening.truncation import read_by_task
from worker.state.learned_samples import RANK_UPDATE_LIMIT, LearnedSamples
from worker.state.learner_state import LearnerState, TaskNovelty
from worker.state.recovery import Recovery
from worker.state.snapshots import Snapshot, pack
from worker.state.words_rules import rules_failed
from worker.updates.draft import draft_of, repeated_metrics, words_after
from worker.updates.dry_run import dry_step
from worker.updates.step import Step, harm, of_task


class StepRunner:
    """Owns the learner's state: nothing else replaces it or applies a proposal to one of its models.

    Not thread-safe and not re-entrant: one coroutine drives it.
    """

    def __init__(
        self,
        ledger: VersionLedger,
        publisher: Publisher,
        recovery: Recovery,
        learned: LearnedSamples,
        settings: Settings,
    ) -> None:
        self._ledger = ledger
        self._publisher = publisher
        self._recovery = recovery
        self._learned = learned
        self._settings = settings
        self._state: LearnerState | None = None
        self._generation = 0

    @property
    def state(self) -> LearnerState | None:
        """As of the last `catch_up` or step; None before there is a version."""
        return self._state

    @property
    def live(self) -> LearnerState:
        """The state. Raises `RuntimeError` where there is none."""
        if self._state is None:
            raise RuntimeError("there is no version to learn on")
        return self._state

    def forget(self) -> None:
        """Drops the state; `catch_up` makes it anew from SQL, as after a start."""
        self._state = None

    async def catch_up(self) -> LearnerState | None:
        """Brings the state to the live version, whoever promoted it; None while there is none."""
        live = await self._ledger.live()
        if live is None:
            self._state = None
        encoder: Encoder | None = None
        while live is not None and (self._state is None or self._state.version != live.number):
            # Taken away while it moves: a state that followed the ledger half-way must not be learned on.
            state, self._state = self._state, None
            encoder = state.encoder if state is not None else encoder
            moved = await self._recovery.follow(state, live) if state is not None else None
            if moved is None:
                moved = await self._recovery.open(live, encoder)
            encoder = moved.encoder
            read, live = live, await self._ledger.live()
            if live is None or live.number != read.number:
                continue  # promoted meanwhile: the samples just read may be newer than the version they were read for
            self._take(moved)
            if live.gate.get("pending_unlearn_count") or live.gate.get("pending_label_changes"):
                await self._serve_state()
                break  # `run` has made the state the live version's; `live` was read before it
        return self._state

    async def propose(
        self,
        state: LearnerState,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        *,
        features: Mapping[str, LabelledFeatures] | None = None,
        doubts: Mapping[str, Doubt] | None = None,
        bulk: bool = False,
    ) -> Step:
        """Works out the change of each task's head; nothing moves yet.

        Args:
            state: the live one, or the empty one of a first version.
            adds: what enters.
            removes: what leaves.
            features: by sample id, those that were read before.
            doubts: by sample id; those of `adds` are kept.
            bulk: refit instead of making a rank-k update, whatever the number of samples.
        """
        proposals: dict[str, Proposal] = {}
        changes: dict[str, ModelChange] = {}
        embed = update = 0.0
        for task in sorted({sample.task for sample in (*adds, *removes)}):
            begun = time.perf_counter()
            entering, leaving = of_task(adds, task), of_task(removes, task)
            change = await self._learned.change(state, task, entering, leaving, known=features)
            embed += time.perf_counter() - begun
            begun = time.perf_counter()
            is_bulk = bulk or len(entering) + len(leaving) > RANK_UPDATE_LIMIT
            if not is_bulk:
                change = replace(change, corrections=_corrections(entering, state.alike))
            changes[task] = change
            proposal = await asyncio.to_thread(state.model(task).propose, change, bulk=is_bulk)
            if is_bulk and (fitted := await asyncio.to_thread(temperature_of, proposal.paired)):
                proposal = proposal.at(fitted)
            proposals[task] = proposal
            update += time.perf_counter() - begun
        is_import = bool(adds) and all(sample.origin is not Origin.FEEDBACK for sample in adds)
        return Step(
            VersionKind.IMPORT if is_import else VersionKind.HEAD,
            "import" if is_import else "feedback",
            proposals,
            adds,
            doubts={sample.id: doubts[sample.id] for sample in adds if sample.id in doubts} if doubts else {},
            timings={"embed_ms": embed * 1e3, "update_ms": update * 1e3},
            changes=changes,
        )

    async def run(self, state: LearnerState, step: Step, *, last: bool = True) -> tuple[Version | None, GateReport]:
        """Writes, judges and promotes one candidate; what comes of `state` is the learner's state then.

        Args:
            state: what the step was proposed on: the live state, or one that is to take its place.
            step: what is proposed.
            last: its samples go into quarantine if it is refused: no part of it will be tried.

        Returns the live version, or None where the gate refused it, and the gate's report.
        """
        if self._state is not None and state is not self._state and state.generation == self._state.generation:
            raise RuntimeError("the step was proposed on a state that has been replaced since")
        novelty = await asyncio.to_thread(state.next_novelty, step.proposals)
        written, report = await self._write_and_judge(state, step, novelty)
        if not report.accepted:
            harmful = {sample.id: harm(sample.task, report) for sample in step.adds} if last else {}
            await self._publisher.refuse(written, report, step.ledger_change(), harmful)
            return None, report
        version = await self._publisher.promote(written, report, step.ledger_change())
        # The version is live: from here the state must follow, so nothing may stop it.
        await asyncio.shield(asyncio.to_thread(self._apply, state, step, novelty, version))
        return version, report

    async def replace_encoder(
        self, state: LearnerState, written: NewVersion, report: GateReport, change: LedgerChange
    ) -> Version:
        """Promotes a written version on another encoder; `state`, which was made for it, is the learner's from then on.

        Raises `ParentNotLive`.
        """
        version = await self._publisher.promote(written, report, change)
        folder = self._publisher.encoder_folder(version.number)
        unsaved = self._settings.snapshot_every  # recovery cannot follow the ledger over another encoder
        self._take(replace(state, version=version.number, encoder_folder=folder, unsaved=unsaved))
        return version

    async def dry_run(self) -> None:
        """A step without a new sample: all that a step does, but nothing comes of it. Raises what does not work.

        Before there is a version only the disk is tried.
        """
        state = self._state
        if state is None:
            await self._publisher.probe()
            return
        step = await asyncio.to_thread(dry_step, state)
        novelty = await asyncio.to_thread(state.next_novelty, step.proposals)
        written, _ = await self._write_and_judge(state, step, novelty)
        await self._publisher.take_back(written)

    async def refresh_golden(self) -> None:
        """Puts golden samples that came since the start into the evaluation sets."""
        if self._state is not None:
            self._state = await self._recovery.refresh_golden(self._state)

    def mark_alike(self, sample_ids: Collection[str]) -> None:
        """Notes samples that read the same as others with another label: they evaluate nothing.

        Golden and pinned ones do: their owner said so.
        """
        state = self.live
        if not sample_ids:
            return
        self._state = state = replace(state, alike=state.alike | frozenset(sample_ids))
        for model in state.tasks.values():
            kept = {item.sample_id for item in model.evaluation.items if item.golden or item.pinned}
            model.drop_from_evaluation(state.alike - kept)

    def mark_chosen(self, task: str) -> None:
        """Notes that lambda of a task was looked for, so that it is not at every quiet moment."""
        model = self.live.tasks[task]
        model.apply(model.propose_settings(replace(model.hyperparameters, samples=model.samples)))

    def mark_words_failed(self, tasks: Collection[str]) -> None:
        """Notes that answers by words were worse than promised: from the next version on they answer nothing alone."""
        samples = {task: self.live.tasks[task].samples for task in tasks}
        self._state = replace(self.live, words=rules_failed(self.live.words, samples))

    def mark_consolidated(self, watermark: int) -> None:
        """Notes up to which sample a consolidation has looked: it is not tried again for the same ones."""
        self._state = replace(self.live, encoder_watermark=watermark)

    async def take_snapshot(self) -> Snapshot:
        """A copy of the statistics; what came until now counts as saved."""
        snapshot = await asyncio.to_thread(pack, self.live)
        self._state = replace(self.live, unsaved=0)
        return snapshot

    async def _write_and_judge(
        self, state: LearnerState, step: Step, novelty: Mapping[str, TaskNovelty]
    ) -> tuple[NewVersion, GateReport]:
        """Writes a candidate and judges it; nothing serves it yet."""
        begun = time.perf_counter()
        written = await self._publisher.write(await asyncio.to_thread(draft_of, state, step, novelty))
        wrote = time.perf_counter()
        evidence = {
            task: Evidence(
                proposal.paired,
                state.model(task).temperature,
                proposal.temperature,
                [sample.served_label for sample in of_task(step.adds, task)],
            )
            for task, proposal in step.proposals.items()
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
            await self._publisher.discard(written)  # without a report it gets no row
            raise
        now = {"write_ms": (wrote - begun) * 1e3, "gate_ms": (time.perf_counter() - wrote) * 1e3}
        timings = {name: round(value, 2) for name, value in {**step.timings, **now}.items()}
        reading = await asyncio.to_thread(read_by_task, state, step.adds)
        metrics = {**written.metrics, **repeated_metrics(report), "reading": reading, "timings": timings}
        return replace(written, metrics=metrics), report

    def _apply(self, state: LearnerState, step: Step, novelty: Mapping[str, TaskNovelty], version: Version) -> None:
        tasks = dict(state.tasks)
        for task, proposal in step.proposals.items():
            model = tasks[task] = state.model(task)
            model.apply(proposal)
        after = replace(
            state,
            version=version.number,
            watermark=version.watermark,
            encoder_folder=self._publisher.encoder_folder(version.number),  # the parent's may be retired soon
            tasks=step.staying(tasks),
            novelty=step.staying(novelty),
            words=words_after(state, step),
            unsaved=state.unsaved + step.moved + (self._settings.snapshot_every if step.needs_snapshot else 0),
        )
        if state is self._state and step.label is None:
            self._state = after
        else:  # another state's models, or other labels: what was remembered of the one before does not fit
            self._take(after)

    def _take(self, state: LearnerState) -> None:
        self._generation += 1
        self._state = replace(state, generation=self._generation)

    async def _serve_state(self) -> None:
        """After a roll-back its artefacts are older than some retractions or changes of labels. The state is not."""
        state = self.live
        proposals = {task: await asyncio.to_thread(model.propose_settings) for task, model in state.tasks.items()}
        reason = "retracted samples or former labels were back after a roll-back"
        await self.run(state, Step(VersionKind.HEAD, "retraction", proposals, forced=reason))


def _corrections(samples: Sequence[Sample], alike: Collection[str]) -> frozenset[str]:
    return frozenset(sample.id for sample in samples if sample.origin is Origin.FEEDBACK and sample.id not in alike)

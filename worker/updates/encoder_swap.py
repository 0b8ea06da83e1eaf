"""From a trained or chosen encoder to a version: heads refitted on its features, judged against the live, published."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, replace
from pathlib import Path

import structlog
import torch

from pawl.classifier.encoders.home_encoder import features_for, lexical_for
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.domain.encoders import EncoderOrigin, EncoderRequest
from pawl.domain.gate_reports import GateReport
from pawl.domain.samples import SampleState
from pawl.domain.versions import LedgerAction, LedgerChange, NewVersion, Version, VersionKind
from pawl.ports import Encoder
from pawl.settings import Settings
from pawl.settings.consolidation import ConsolidationSettings
from worker.consolidation.job import Result
from worker.model.hyperparameters import choose
from worker.model.proposal import PairedScores
from worker.model.task_model import TaskModel
from worker.release.gate import Evidence, judge
from worker.release.publisher import Draft, Publisher
from worker.state.chosen import chosen_metrics
from worker.state.learned_samples import embeddings_of
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.state.recovery import Recovery
from worker.updates.draft import words_metrics
from worker.updates.step_runner import StepRunner

_TIMED_TEXTS = 64
_TIMED_ROUNDS = 3
log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Cause:
    """What a new encoder came of: the live version that its job started from, and who asked for it.

    `request` is there where it was not trained but chosen.
    """

    version: int
    trigger: str
    request: EncoderRequest | None = None

    @property
    def kind(self) -> VersionKind:
        """The kind of version that comes of it."""
        return VersionKind.CONSOLIDATION if self.request is None else VersionKind.ENCODER

    @property
    def work(self) -> str:
        """What the work is called in events and logs."""
        return self.kind.value


class EncoderSwap:
    """Replaces the encoder under all heads, if the gate agrees."""

    def __init__(
        self,
        ports: LearnerPorts,
        publisher: Publisher,
        recovery: Recovery,
        settings: Settings,
    ) -> None:
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._publisher = publisher
        self._recovery = recovery
        self._settings = settings

    async def swap(self, runner: StepRunner, encoder: Encoder, folder: Path, result: Result, cause: Cause) -> Version:
        """Refits, judges and publishes. Samples that came since the child started are in: the heads are made of all.

        Raises `ParentNotLive` when the live version changed meanwhile.
        """
        live = runner.live
        begun = time.perf_counter()
        new = await self._refitted(live, encoder, folder, result, cause)
        refit = time.perf_counter() - begun
        draft = await asyncio.to_thread(self._draft, live, new, result, cause, refit)
        written = await self._publisher.write(draft)
        report = await self._judged(live, new, written, cause)
        change = LedgerChange(trained=result.trained)
        if not report.accepted:
            if cause.request is None:
                runner.mark_consolidated(result.watermark)
            return await self._publisher.refuse(written, report, change, {})
        promoted = await runner.replace_encoder(new, written, report, change)
        await self._samples.drop_embeddings([encoder.digest, live.encoder.digest])  # the former's stay, for a roll-back
        words = promoted.metrics.get("words")
        log.info("encoder_replaced", version=promoted.number, trained=len(result.trained), words=words)
        return promoted

    async def _refitted(
        self, live: LearnerState, encoder: Encoder, folder: Path, result: Result, cause: Cause
    ) -> LearnerState:
        """The state of the live version with all heads fitted on the new encoder's features."""
        state = LearnerState(
            live.version,
            encoder,
            folder,
            live.features if cause.request is None else features_for(folder, cause.request.choice),
            self._settings,
            # Also what only the live encoder was trained on: both are judged on samples that neither has seen.
            trained=live.trained | await self._recovery.digests(result.trained),
            made_with=_made_with(live, result, cause, folder),
            lexical=live.lexical if cause.request is None else lexical_for(cause.request.choice),
        )
        # A trained encoder has the live one's tokenizer and cuts texts where that does; a chosen one may cut elsewhere.
        if cause.request is None:
            await self._samples.copy_cuts(live.encoder.digest, encoder.digest)
        await self._embed_late(state, cause.version)
        state = await self._recovery.centred(state)
        state = await self._recovery.rebuild(state, await self._ledger.get(live.version))
        for model in state.tasks.values():
            # The lexical head is what it was; how it is stacked with the new semantic one is chosen anew.
            chosen = await asyncio.to_thread(choose, model)
            model.apply(await asyncio.to_thread(model.propose_settings, chosen))
        novelty = await asyncio.to_thread(state.next_novelty, {})
        return replace(state, novelty=novelty, encoder_watermark=result.watermark)

    async def _judged(self, live: LearnerState, new: LearnerState, written: NewVersion, cause: Cause) -> GateReport:
        """The gate's report on the heads of both encoders and on their speed."""
        evidence = {
            task: Evidence(_compare(old, new.tasks[task]), old.temperature, new.tasks[task].temperature, [])
            for task, old in live.tasks.items()
            if task in new.tasks
        }
        ratio = await self._latency_ratio(live, new)
        accept = None if cause.request is None else cause.request.accept
        return judge(evidence, self._settings, size_bytes=written.size_bytes, latency_ratio=ratio, forced=accept)

    async def _embed_late(self, new: LearnerState, since: int) -> None:
        """Embeds what was learned since the child read the store: in a store above `coreset` it would be left out."""
        rows = await self._ledger.ledger(since)
        learned = [row.sample_id for row in rows if row.action is LedgerAction.LEARN]
        samples = await self._samples.get_many(learned)
        present = [sample for sample in samples if sample.state is SampleState.LEARNED]
        await embeddings_of(new, self._samples, present)

    def _draft(
        self, live: LearnerState, new: LearnerState, result: Result, cause: Cause, refit_seconds: float
    ) -> Draft:
        chosen = chosen_metrics({task: model.hyperparameters for task, model in new.tasks.items()})
        training = {*ConsolidationSettings.model_fields}
        request, heads = cause.request, new.heads({}, new.novelty)
        return Draft(
            kind=cause.kind,
            trigger=cause.trigger,
            parent=live.version,
            encoder_folder=new.encoder_folder,
            encoder_digest=new.encoder.digest,
            heads=heads,
            features=new.features,
            settings=chosen | self._settings.model_dump(include=training | {"young_class_size", "prior_correction"}),
            watermark=live.watermark,
            made_with=new.made_with,
            reason=None if request is None else request.reason,
            samples_new=result.samples_new,
            samples_replayed=result.samples_replayed,
            metrics=chosen
            | {"encoder_watermark": result.watermark}
            | words_metrics(new, heads)
            | {cause.work: result.metrics, "refit_s": round(refit_seconds, 2)}
            | ({} if request is None else {"encoder_request": request.id}),
        )

    async def _latency_ratio(self, live: LearnerState, new: LearnerState) -> float | None:
        """Time per text of the new artefact against the live one's, both in this process, in turn.

        None where one of the two is no encoder: whoever asks for one, or for none, knows which is slower.
        """
        if 0 in (live.encoder.dimension, new.encoder.dimension):
            return None
        ids = [item.sample_id for model in live.tasks.values() for item in model.evaluation.items][:_TIMED_TEXTS]
        texts = [sample.text for sample in await self._samples.get_many(ids)]
        return await asyncio.to_thread(_ratio, live.encoder, new.encoder, texts) if texts else None


def _made_with(live: LearnerState, result: Result, cause: Cause, folder: Path) -> EncoderOrigin | None:
    if cause.request is not None:
        return result.origin
    if live.made_with is None:
        return None
    precision = EncoderSpec.from_file(folder / SPEC_FILE).precision
    return replace(live.made_with, choice=replace(live.made_with.choice, precision=precision))


def _compare(old: TaskModel, new: TaskModel) -> PairedScores:
    """Both heads on the samples that neither encoder was trained on and that both evaluation sets hold."""
    places = {item.sample_id: row for row, item in enumerate(old.evaluation.items)}
    rows = [row for row, item in enumerate(new.evaluation.items) if item.sample_id in places]
    items = [new.evaluation.items[row] for row in rows]
    columns = torch.tensor([old.labels.index(label) for label in new.labels], dtype=torch.int64)
    live = old.leave_one_out()[[places[item.sample_id] for item in items]][:, columns]
    candidate = new.leave_one_out()[rows]
    empty = candidate.new_zeros(0, len(new.labels))
    none = torch.zeros(0, dtype=torch.int64)
    return PairedScores(tuple(new.labels), items, new.evaluation.targets[rows], live, candidate, none, empty, empty)


def _ratio(old: Encoder, new: Encoder, texts: list[str]) -> float:
    # In turn, and the best of each: other load on the machine only adds to a time, and would else fall on one of the
    # two.
    best = {"old": float("inf"), "new": float("inf")}
    for _ in range(_TIMED_ROUNDS):
        for name, encoder in (("old", old), ("new", new)):
            begun = time.perf_counter()
            encoder.encode(texts)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best["new"] / best["old"]

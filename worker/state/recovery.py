"""Brings the learner's state to the live version: from a snapshot and the ledger, or from the whole store."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import structlog

from pawl.classifier.classifier import load_classifier
from pawl.classifier.lexical import LexicalFeatures
from pawl.domain.encoders import EncoderOrigin
from pawl.domain.labels import LabelState
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE
from pawl.domain.samples import Sample
from pawl.domain.versions import LedgerAction, LedgerRow, Version, has_reweighted
from pawl.ports import Encoder
from pawl.settings import Settings
from pawl.versions.lineage import trained_samples
from worker.model.change import LabelledFeatures
from worker.model.task_model import TaskModel
from worker.state.chosen import chosen_for
from worker.state.learned_samples import RANK_UPDATE_LIMIT, LearnedSamples
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState
from worker.state.snapshots import Snapshots
from worker.state.words_rules import FAILED_AT, KEPT_LIMIT, KeptTexts, WordsRules

_TOO_MANY = 5000
"""Ledger rows beyond which the heads are made anew instead of followed row by row."""
log = structlog.get_logger(__name__)


class Recovery:
    """Makes a `LearnerState` of a version."""

    def __init__(
        self,
        ports: LearnerPorts,
        learned: LearnedSamples,
        snapshots: Snapshots,
        open_encoder: Callable[[Path, str], Encoder],
        settings: Settings,
    ) -> None:
        self._ports = ports
        self._samples = ports.samples
        self._learned = learned
        self._snapshots = snapshots
        self._open_encoder = open_encoder
        self._settings = settings

    async def open(self, version: Version, encoder: Encoder | None = None) -> LearnerState:
        """The state of a live version after a start; `encoder` is reused where it is the version's."""
        state = await self._empty(version, encoder)
        snapshot = await asyncio.to_thread(self._snapshots.newest, state, version.number)
        if snapshot is not None and not await self._ports.labels.applied(snapshot.version, version.number):
            tasks = await asyncio.to_thread(snapshot.restore, state.new_model)
            restored = replace(state, tasks=tasks, version=snapshot.version)
            # Before the ledger is followed: what has left the head since then leaves the evaluation set with it.
            await self._seat(restored, snapshot.evaluation)
            followed = await self.follow(restored, version)
            if followed is not None:
                followed = await self.refresh_golden(followed)
                log.info("recovered", version=version.number, snapshot=snapshot.version, samples=followed.samples)
                return followed
        state = await self.rebuild(state, version)
        log.info("rebuilt", version=version.number, samples=state.samples)
        return state

    async def follow(self, state: LearnerState, version: Version) -> LearnerState | None:
        """Takes the ledger's rows between the state and a version; None where a rebuild is needed instead.

        The models of the state are moved, so it must not be used any more, whatever is returned.

        A rebuild is needed after a change of labels or of an emphasis: SQL holds those of now, so it does not tell any
        more which rows weighed what. The learner that changes labels keeps a snapshot of that version.
        """
        if state.encoder.digest != version.encoder_digest or not await self._has_features(state, version):
            return None
        if await self._ports.labels.applied(state.version, version.number):
            return None
        rows = await self._ports.ledger.ledger(state.version, version.number)
        # Net: a sample that came and left again (a roll-back) is not in SQL's head, and there is nothing to move for
        # it.
        moved = _net_moves(rows)
        if len(moved) > _TOO_MANY or has_reweighted(rows):
            return None
        samples = await self._samples.get_many(list(moved))
        tasks = dict(state.tasks)
        for task in sorted({sample.task for sample in samples}):
            of_task = [sample for sample in samples if sample.task == task]
            adds = [sample for sample in of_task if moved[sample.id] > 0]
            removes = [sample for sample in of_task if moved[sample.id] < 0]
            model = state.model(task)
            if not {sample.label for sample in removes} <= set(model.labels):
                return None  # another learner is changing a label at this moment
            change = await self._learned.change(state, task, adds, removes)
            proposal = await asyncio.to_thread(model.propose, change, bulk=len(of_task) > RANK_UPDATE_LIMIT)
            await asyncio.to_thread(model.apply, proposal)
            tasks[task] = model
        state = await self._at(state, version, tasks)
        for task, model in tasks.items():
            await asyncio.to_thread(_retune, task, model, version)
        return state

    async def rebuild(self, state: LearnerState, version: Version) -> LearnerState:
        """An empty state with all heads of a version, made anew from the learned samples, page by page."""
        state = replace(state, alike=frozenset(await self._samples.cut_conflicts(state.encoder.digest)))
        tasks: dict[str, TaskModel] = {}
        for task in await self._samples.tasks():
            counts = await self._learned.counts(state, task)
            if not counts:
                continue
            chosen = chosen_for(version, task)
            model = tasks[task] = state.new_model(chosen)
            records = await self._ports.labels.records(task)
            former = {name for name, record in records.items() if record.state is not LabelState.ACTIVE}
            known = [name for name in version.labels.get(task, ()) if name not in former]
            labels = [*known, *(label for label in sorted(counts) if label not in known)]
            model.restore({label: counts[label] for label in labels}, chosen)
            evaluating: list[LabelledFeatures] = []
            async for page in self._learned.in_head(state, task):
                examples = await self._learned.features(state, page)
                await asyncio.to_thread(model.absorb, examples)
                # Cut to the limit after each page: the features of a large store do not fit into memory.
                # Each on its own, or the few that stay would keep the features of all pages.
                able = [example for example in examples if example.eligible]
                evaluating = [example.on_its_own() for example in model.best_for_evaluation([*evaluating, *able])]
            await asyncio.to_thread(model.refit)
            # After the refit: the scores and leverages of the set are those of the head.
            await asyncio.to_thread(model.add_to_evaluation, evaluating)
        return await self.refresh_golden(await self._at(state, version, tasks))

    async def centred(self, state: LearnerState, samples: Sequence[Sample] | None = None) -> LearnerState:
        """An empty state with features that are centred, where that pays, on samples: the learned ones unless given."""
        total, texts = np.zeros(state.encoder.dimension), 0
        async for page in self._learned.embedded(state, samples):
            total += page.sum(axis=0, dtype=np.float64)
            texts += len(page)
        mean = (total / max(texts, 1)).astype(np.float32)
        return replace(state, features=state.features.centred_on(mean, texts)) if state.encoder.dimension else state

    async def _at(self, state: LearnerState, version: Version, tasks: Mapping[str, TaskModel]) -> LearnerState:
        """The state with the models that it has at a version, and with what words must not answer alone there."""
        failed: Mapping[str, int] = version.metrics.get(FAILED_AT, {})
        words = {}
        for task in tasks:
            digests = await self._samples.kept_digests(task, KEPT_LIMIT + 1)
            words[task] = WordsRules(KeptTexts().with_digests(digests), failed.get(task))
        return replace(state, tasks=tasks, words=words, version=version.number, watermark=version.watermark)

    async def refresh_golden(self, state: LearnerState) -> LearnerState:
        """Puts golden samples into the evaluation sets, and takes out those that are no more golden or pinned so.

        A text that the encoder was trained on evaluates nothing, golden or not. In the state that it returns words
        never answer a golden text alone.
        """
        words = dict(state.words)
        for task, model in state.tasks.items():
            golden = await self._samples.golden(task, self._settings.gate_items)
            present = {(sample.id, sample.pinned) for sample in golden}
            golden_items = {(item.sample_id, item.pinned) for item in model.evaluation.items if item.golden}
            if stale := golden_items - present:
                model.drop_from_evaluation({sample_id for sample_id, _ in stale})
            taken = {item.sample_id for item in model.evaluation.items}
            missing = [sample for sample in golden if sample.id not in taken and sample.label in model.labels]
            missing = [sample for sample in missing if sample.text_digest not in state.trained]
            if missing:
                await asyncio.to_thread(model.add_to_evaluation, await self._learned.features(state, missing))
            if golden:
                rules = words.get(task, WordsRules())
                words[task] = replace(rules, kept=rules.kept.with_digests(sample.text_digest for sample in golden))
        return replace(state, words=words)

    async def trained_on(self, encoder_digest: str, up_to: int) -> frozenset[str]:
        """Digests of the texts that the encoder's lineage was trained on; under any id or task they judge nothing."""
        return await self.digests(sorted(await trained_samples(self._ports.ledger, encoder_digest, up_to)))

    async def digests(self, sample_ids: Sequence[str]) -> frozenset[str]:
        """Text digests of samples."""
        return frozenset(sample.text_digest for sample in await self._samples.get_many(sample_ids))

    async def _has_features(self, state: LearnerState, version: Version) -> bool:
        """Whether a version's features are the state's: the same encoder may have been given others."""
        manifest = await asyncio.to_thread(self._ports.artefacts.manifest, version.number)
        lexical = _lexical_features(version)
        is_same = (lexical and lexical.size) == (state.lexical and state.lexical.size)
        return is_same and manifest.files.get(FEATURES_FILE) == state.features.digest

    async def _empty(self, version: Version, encoder: Encoder | None) -> LearnerState:
        folder = await asyncio.to_thread(self._ports.artefacts.open, version.number)
        encoder_folder = Path(folder.path) / ENCODER_FOLDER
        if encoder is None or encoder.digest != version.encoder_digest:
            encoder = await asyncio.to_thread(self._open_encoder, encoder_folder, version.encoder_digest)
        classifier = await asyncio.to_thread(load_classifier, folder, encoder=encoder)
        return LearnerState(
            0,
            classifier.encoder,
            encoder_folder,
            classifier.features,
            self._settings,
            trained=await self.trained_on(version.encoder_digest, version.number),
            encoder_watermark=int(version.metrics.get("encoder_watermark", 0)),
            made_with=EncoderOrigin.of(folder.manifest.settings),
            alike=frozenset(await self._samples.cut_conflicts(version.encoder_digest)),
            lexical=_lexical_features(version),
        )

    async def _seat(self, state: LearnerState, evaluation: dict[str, list[str]]) -> None:
        """Fills the evaluation sets with samples, ids by task."""
        for task, ids in evaluation.items():
            samples = await self._samples.get_many(ids)
            samples = [s for s in samples if s.label in state.tasks[task].labels]  # a label may be renamed just now
            await asyncio.to_thread(state.tasks[task].add_to_evaluation, await self._learned.features(state, samples))


def _lexical_features(version: Version) -> LexicalFeatures | None:
    """The lexical features of a version's heads, which all have the same."""
    sizes = {info.lexical.size for info in version.heads.values() if info.lexical is not None}
    return LexicalFeatures(sizes.pop()) if sizes else None


def _net_moves(rows: Sequence[LedgerRow]) -> dict[str, int]:
    """Sample id -> 1 where it entered, -1 where it left; without those that did both."""
    net: dict[str, int] = defaultdict(int)
    for row in rows:
        if row.action is not LedgerAction.ENCODER:
            net[row.sample_id] += 1 if row.action is LedgerAction.LEARN else -1
    return {sample_id: step for sample_id, step in net.items() if step}


def _retune(task: str, model: TaskModel, version: Version) -> None:
    """Takes lambda, stacking and temperature from a version: the ledger tells of samples alone."""
    model.apply(model.propose_settings(chosen_for(version, task, model.hyperparameters)))

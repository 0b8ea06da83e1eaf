"""Getting the learner's state to the live version: from a snapshot and the ledger, or from the whole store.

Samples in state `learned` are exactly the members of the live version's heads, because a promotion changes them in
the transaction that makes the version live. Where more are learned than `coreset` allows, those without an embedding
under the live encoder are not in the heads.
"""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from pathlib import Path

import structlog
import torch

from pawl.classifier.classifier import load_classifier
from pawl.domain.encoders import EncoderOrigin
from pawl.domain.labels import LabelState
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE
from pawl.domain.samples import Sample
from pawl.domain.versions import LedgerAction, Version, has_reweighted
from pawl.ports import Encoder
from pawl.settings import Settings
from worker.model.change import LabelledFeatures, ModelChange
from worker.model.hyperparameters import DEFAULT
from worker.model.ridge import RowChange
from worker.model.task_model import TaskModel
from worker.state.chosen_settings import number_map, retune
from worker.state.learner_ports import LearnerPorts
from worker.state.learner_state import LearnerState, embeddings_of
from worker.state.snapshots import Snapshots

_PAGE = 2000
_TOO_MANY = 5000
"""Ledger rows beyond which the heads are made anew instead of followed row by row."""
log = structlog.get_logger(__name__)


class Recovery:
    """Brings a `LearnerState` to a version."""

    def __init__(
        self,
        ports: LearnerPorts,
        snapshots: Snapshots,
        open_encoder: Callable[[Path, str], Encoder],
        settings: Settings,
    ) -> None:
        self._samples = ports.samples
        self._ledger = ports.ledger
        self._labels = ports.labels
        self._artefacts = ports.artefacts
        self._snapshots = snapshots
        self._open_encoder = open_encoder
        self._settings = settings

    async def open(self, version: Version, encoder: Encoder | None = None) -> LearnerState:
        """The state of a live version after a start; `encoder` is reused where it is the version's."""
        state = await self._empty(version, encoder)
        snapshot = await asyncio.to_thread(
            self._snapshots.newest, version.encoder_digest, state.features.digest, version.number
        )
        state.alike = await self._samples.cut_conflicts(version.encoder_digest)
        if snapshot is not None and not await self._labels.applied(snapshot.version, version.number):
            state.version = snapshot.version
            await asyncio.to_thread(snapshot.restore, state)
            await self._seat_panel(state, snapshot.panel)
            if await self.follow(state, version):
                await self.seat_golden(state)
                log.info("recovered", version=version.number, snapshot=snapshot.version, samples=state.samples)
                return state
            state = await self._empty(version, state.encoder)
        await self.rebuild(state, version)
        log.info("rebuilt", version=version.number, samples=state.samples)
        return state

    async def follow(self, state: LearnerState, version: Version) -> bool:
        """Takes the ledger's rows between the state and a version; false where a rebuild is needed instead.

        It is needed after a change of labels or of an emphasis: SQL holds those of now, so it cannot be told any more
        which rows weighed what. The learner that changes labels keeps a snapshot of that version.
        """
        if state.encoder.digest != version.encoder_digest or not await self._has_features(state, version):
            return False
        if await self._labels.applied(state.version, version.number):
            return False
        rows = await self._ledger.ledger(state.version, version.number)
        net: dict[str, int] = defaultdict(int)
        for row in rows:
            if row.action is not LedgerAction.ENCODER:
                net[row.sample_id] += 1 if row.action is LedgerAction.LEARN else -1
        moved = {sample_id: step for sample_id, step in net.items() if step}
        if len(moved) > _TOO_MANY or has_reweighted(rows):
            return False
        samples = await self._samples.get_many(list(moved))
        for task in sorted({sample.task for sample in samples}):
            own = [sample for sample in samples if sample.task == task]
            adds = [sample for sample in own if moved[sample.id] > 0]
            removes = [sample for sample in own if moved[sample.id] < 0]
            if not {sample.label for sample in removes} <= set(state.task(task).labels):
                return False  # another learner is changing a label at this moment
            change = await self.change(state, task, adds, removes)
            model = state.task(task)
            proposal = await asyncio.to_thread(model.propose, change, bulk=len(own) > 512)
            await asyncio.to_thread(model.apply, proposal)
        await retune(state, version)
        self._note(state, version)
        return True

    async def change(
        self,
        state: LearnerState,
        task: str,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        gone: Collection[str] = (),
    ) -> ModelChange:
        """A change of one task, with the members whose weight it changes.

        Members are read from SQL; whether `adds` are marked learned there already or not makes no difference. `gone`
        are ids of learned samples that the state, which is then not the live one, does not hold.
        """
        learner = state.task(task)
        if learner.samples > self._settings.coreset:
            removes = await self._in_head(state, removes)
        members = await self._stirred(state, task, adds, removes, gone)
        everyone = [*adds, *removes, *(sample for rows in members.values() for sample in rows)]
        embeddings = await embeddings_of(state, self._samples, everyone)
        return ModelChange(
            adds=state.examples(adds, embeddings),
            removes=state.examples(removes, embeddings),
            members={label: state.examples(rows, embeddings) for label, rows in members.items()},
        )

    async def members(
        self,
        state: LearnerState,
        task: str,
        adds: Sequence[Sample],
        removes: Sequence[Sample],
        gone: Collection[str] = (),
    ) -> dict[str, list[LabelledFeatures]]:
        """The learned samples whose weight a change changes; see `change`."""
        found = await self._stirred(state, task, adds, removes, gone)
        embeddings = await embeddings_of(state, self._samples, [one for rows in found.values() for one in rows])
        return {label: state.examples(rows, embeddings) for label, rows in found.items()}

    async def _stirred(
        self, state: LearnerState, task: str, adds: Sequence[Sample], removes: Sequence[Sample], gone: Collection[str]
    ) -> dict[str, list[Sample]]:
        moving = {*gone, *(sample.id for sample in (*adds, *removes))}
        stirred = state.task(task).stirred([s.label for s in adds], [s.label for s in removes])
        limit = self._settings.young_class_size + len(moving) + 1
        found = {label: await self._samples.learned_with_label(task, label, limit) for label in stirred}
        return {label: [s for s in rows if s.id not in moving] for label, rows in found.items()}

    async def rebuild(self, state: LearnerState, version: Version) -> None:
        """Makes all heads anew from the learned samples, page by page."""
        state.alike = await self._samples.cut_conflicts(state.encoder.digest)
        chosen = number_map(version, "regularisation")
        at = number_map(version, "regularisation_chosen_at")
        for task in await self._samples.tasks():
            counts = await self._counts(state, task)
            if not counts:
                continue
            learner = state.task(task, chosen.get(task, DEFAULT))
            records = await self._labels.records(task)
            former = {name for name, record in records.items() if record.state is not LabelState.ACTIVE}
            known = [name for name in version.labels.get(task, ()) if name not in former]
            learner.labels = [*known, *(label for label in sorted(counts) if label not in known)]
            learner.counts = [counts[label] for label in learner.labels]
            seats: list[LabelledFeatures] = []
            async for page in self._pages(state, task):
                examples = state.examples(page, await embeddings_of(state, self._samples, page))
                await asyncio.to_thread(_absorb, learner, examples)
                seats = learner.best_seats([*seats, *(example for example in examples if example.eligible)])
            await asyncio.to_thread(learner.head.refit)
            await asyncio.to_thread(learner.seat, seats)
            learner.regularisation_chosen_at = int(at.get(task, 0))
            if task in version.heads:
                learner.temperature = version.heads[task].temperature
        await self.seat_golden(state)
        self._note(state, version)

    async def with_label(
        self, state: LearnerState, task: str, label: str
    ) -> AsyncIterator[tuple[list[str], list[LabelledFeatures]]]:
        """The learned samples of a label, page by page: the ids of all, and those that are in the head."""
        after = 0
        while page := await self._samples.learned_with_label(task, label, _PAGE, after):
            after = page[-1].seq
            members = await self._in_head(state, page) if state.task(task).samples > self._settings.coreset else page
            yield [s.id for s in page], state.examples(members, await embeddings_of(state, self._samples, members))

    async def seat_golden(self, state: LearnerState) -> None:
        """Puts the golden samples on the panels, and takes away those that are golden, or pinned as they sit, no more.

        A text that the encoder was trained on judges nothing, golden or not.
        """
        for task, learner in state.tasks.items():
            found = await self._samples.golden(task, self._settings.gate_items)
            present = {(sample.id, sample.pinned) for sample in found}
            golden = [item for item in learner.evaluation.items if item.golden]
            stale = [item for item in golden if (item.sample_id, item.pinned) not in present]
            learner.unseat({item.sample_id for item in stale})
            seated = {item.sample_id for item in learner.evaluation.items}
            missing = [sample for sample in found if sample.id not in seated and sample.label in learner.labels]
            missing = [sample for sample in missing if sample.text_digest not in state.trained]
            embeddings = await embeddings_of(state, self._samples, missing)
            await asyncio.to_thread(learner.seat, state.examples(missing, embeddings))

    async def trained_on(self, up_to: int) -> frozenset[str]:
        """Digests of the texts that an encoder of the lineage was trained on; under any id or task they judge nothing.

        A superset is safe (it only keeps samples off the panel), so every encoder row up to the version counts.
        """
        rows = await self._ledger.ledger(0, up_to)
        return await self.digests([row.sample_id for row in rows if row.action is LedgerAction.ENCODER])

    async def digests(self, sample_ids: Sequence[str]) -> frozenset[str]:
        """Text digests of samples."""
        return frozenset(sample.text_digest for sample in await self._samples.get_many(sample_ids))

    async def _has_features(self, state: LearnerState, version: Version) -> bool:
        """Whether a version's random features are the state's: the same encoder may have been given others."""
        manifest = await asyncio.to_thread(self._artefacts.manifest, version.number)
        return manifest.files.get(FEATURES_FILE) == state.features.digest

    async def _empty(self, version: Version, encoder: Encoder | None) -> LearnerState:
        folder = await asyncio.to_thread(self._artefacts.open, version.number)
        if encoder is None or encoder.digest != version.encoder_digest:
            path = Path(folder.path) / ENCODER_FOLDER
            encoder = await asyncio.to_thread(self._open_encoder, path, version.encoder_digest)
        model = await asyncio.to_thread(load_classifier, folder, encoder=encoder)
        trained = await self.trained_on(version.number)
        return LearnerState(
            0,
            model.encoder,
            Path(folder.path) / ENCODER_FOLDER,
            model.features,
            self._settings,
            trained=trained,
            encoder_watermark=int(version.metrics.get("encoder_watermark", 0)),
            made_with=EncoderOrigin.of(folder.manifest.settings),
        )

    async def _counts(self, state: LearnerState, task: str) -> Counter[str]:
        if sum((await self._samples.label_counts(task)).values()) <= self._settings.coreset:
            return Counter(await self._samples.label_counts(task))
        counts: Counter[str] = Counter()
        async for page in self._pages(state, task):
            counts.update(sample.label for sample in page)
        return counts

    async def _pages(self, state: LearnerState, task: str) -> AsyncIterator[list[Sample]]:
        """Members of a task's head by `seq`."""
        learned = sum((await self._samples.label_counts(task)).values())
        after = 0
        while page := await self._samples.learned(task, after, _PAGE):
            after = page[-1].seq
            yield await self._in_head(state, page) if learned > self._settings.coreset else page

    async def _in_head(self, state: LearnerState, samples: Sequence[Sample]) -> list[Sample]:
        found = await self._samples.get_embeddings(state.encoder.digest, [sample.id for sample in samples])
        return [sample for sample in samples if sample.id in found]

    async def _seat_panel(self, state: LearnerState, panel: dict[str, list[str]]) -> None:
        for task, ids in panel.items():
            found, known = await self._samples.get_many(ids), set(state.task(task).labels)
            samples = [sample for sample in found if sample.label in known]  # one may be renamed at this moment
            examples = state.examples(samples, await embeddings_of(state, self._samples, samples))
            await asyncio.to_thread(state.task(task).seat, examples)

    def _note(self, state: LearnerState, version: Version) -> None:
        state.version = version.number
        state.watermark = version.watermark


def _absorb(learner: TaskModel, examples: Sequence[LabelledFeatures]) -> None:
    if not examples:
        return
    index = {label: column for column, label in enumerate(learner.labels)}
    levels = [learner.level(count) for count in learner.counts]
    rows = RowChange(
        torch.stack([example.features for example in examples]),
        torch.tensor([index[example.label] for example in examples], dtype=torch.int64),
        torch.tensor([e.weight * levels[index[e.label]] for e in examples], dtype=torch.float64),
    )
    learner.head.absorb(rows, len(learner.labels))

"""Pawl's own learner in this process: what `python -m worker` puts together, on a SQLite file of its own."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import AsyncEngine

from benchmarks.datasets import Labelled
from benchmarks.harness import BenchmarkFailed, Json
from benchmarks.learning.answers import Questions, Scores
from benchmarks.learning.embeddings import CACHE, CachedEncoder
from benchmarks.learning.verdicts import WatchedLedger
from pawl.artefacts.folders import FolderArtefactStore
from pawl.classifier.classifier import Classifier, load_classifier
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.device import configure_training
from pawl.classifier.encoders.no_encoder import NoEncoder
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.clock import SystemClock
from pawl.db.engine import connect
from pawl.db.labels import SqlLabelStore
from pawl.db.samples import SqlSampleStore
from pawl.db.tables import metadata
from pawl.domain.encoders import NO_ENCODER
from pawl.domain.identifiers import IMPORT_PREFIX, new_identifier
from pawl.domain.imports import NewImport
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE
from pawl.domain.samples import DEFAULT_TASK, NewSample, Origin
from pawl.domain.versions import VersionState
from pawl.ports import Encoder
from pawl.settings import Settings, load_settings
from pawl.streams.sql_alone import SqlAlone
from worker.assembly import assemble
from worker.consolidation.data.inputs import TrainingStores
from worker.consolidation.job import Result
from worker.consolidation.progress import Progress
from worker.consolidation.run import consolidate
from worker.state.first_encoder import first_state
from worker.state.learner_ports import LearnerPorts
from worker.updates.bootstrap import MOST_SAMPLES
from worker.updates.encoder_swap import Cause

_RETIRE_EVERY = 20
_TRIGGER = "benchmark"


@dataclass(frozen=True, slots=True)
class Consolidated:
    """What came of one consolidation.

    outcome     `promoted`, `refused` by the gate, or `unchanged`: training found nothing better on its validation part.
    reasons     the gate's, where it refused.
    seconds     wall time from the start of the job to the version that serves.
    metrics     what the job says of its training.
    """

    outcome: str
    reasons: tuple[str, ...]
    seconds: float
    metrics: Json


@dataclass(slots=True)
class Workshop:
    """What the learners of one program share: settings, a temporary home and encoders that remember."""

    settings: Settings
    cache: Path
    sources: Mapping[str, str] = field(default_factory=dict)
    encoders: dict[str, CachedEncoder] = field(default_factory=dict)
    made: int = 0

    def open(self, folder: Path, digest: str) -> Encoder:
        """An encoder: of an exported folder the same one for the same digest, of a trained one a new one."""
        if EncoderSpec.from_file(folder / SPEC_FILE).is_none:
            return NoEncoder(digest)
        if digest not in self.encoders:
            loaded = OnnxEncoder(folder, threads=self.settings.threads, digest=digest)
            if folder.parent != self.settings.home_path / "encoders":
                return loaded  # no other learner's: it goes with the one that trained it
            self.encoders[digest] = CachedEncoder(loaded, self.cache)
        return self.encoders[digest]

    def review(self, folder: Path, digest: str, stop: Callable[[], bool]) -> None:
        """No choice of a backend is doubtful here."""

    def encoder(self, name: str | None = None) -> CachedEncoder:
        """The encoder of a first version: that of the settings, or the one with a name (not `none`)."""
        settings = self.settings.model_copy(update=self.settings_for(name))
        return self.encoders[first_state(settings, self.open).encoder.digest]

    def settings_for(self, name: str | None) -> dict[str, str]:
        """The settings that change for an encoder with a name; none for that of the settings."""
        return {} if name is None else {"encoder": self.sources.get(name, name)}

    def prepare(self, encoders: Iterable[str | None], texts: Iterable[str]) -> None:
        """Embeds texts ahead of their use with each of the encoders (the field `encoder` of rows)."""
        everything = list(texts)
        for name in dict.fromkeys(encoders):
            if name != NO_ENCODER:
                self.encoder(name).prepare(everything)

    def pawl(self, *, retune: bool = True, **overrides: Any) -> Pawl:
        """A new, empty Pawl with some settings changed."""
        self.made += 1
        return Pawl(self, self.settings.model_copy(update=overrides), self.made, retune=retune)


@contextmanager
def workshop(cache: Path = CACHE, sources: Mapping[str, str] | None = None) -> Iterator[Workshop]:
    """A workshop in a temporary home, in memory where the machine has such a place.

    `sources` says what an encoder's name stands for; a name that it does not have is a source itself.
    """
    memory = Path("/dev/shm")  # noqa: S108 - a place, not a file name
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="pawl-learning-", dir=place) as home:
        result = Workshop(load_settings(home=Path(home)), cache.expanduser(), sources or {})
        try:
            yield result
        finally:
            for encoder in result.encoders.values():
                encoder.close()


def _new_database(folder: Path) -> AsyncEngine:
    """An engine on a new SQLite file with the tables of today."""
    folder.mkdir(parents=True)
    path = folder / "pawl.db"
    maker = create_engine(f"sqlite:///{path}")
    metadata.create_all(maker)
    maker.dispose()
    return connect(f"sqlite:///{path}")


class Pawl:
    """One service's learner, without its loop, and the version it serves. Implements `Learner`.

    Args:
        workshop: Where encoders come from.
        settings: As the worker would read them.
        number: Names the folder of its artefacts.
        retune: Whether lambda and temperature are chosen again as the store grows (`Retuning.maintain`).
    """

    def __init__(self, workshop: Workshop, settings: Settings, number: int, *, retune: bool = True) -> None:
        self._workshop = workshop
        self.settings = settings
        self._retune = retune
        self.root = root = settings.home_path / f"pawl-{number}"
        self._database = database = _new_database(root)
        self.samples = SqlSampleStore.of(database, settings)
        self.ledger = WatchedLedger(database)
        self._artefacts = FolderArtefactStore(root / "artefacts")
        labels, stream = SqlLabelStore(database), SqlAlone(self.ledger)
        ports = LearnerPorts(self.samples, self.ledger, labels, self._artefacts, stream, SystemClock())
        self._parts = assemble(settings, ports, workshop)
        self.runner = self._parts.runner
        self._classifier: Classifier | None = None
        self._unretired = 0

    async def learn(self, rows: Sequence[Labelled]) -> None:
        """An import: queued in SQL, then learned as the worker's sweep does."""
        new = NewImport(new_identifier(IMPORT_PREFIX), DEFAULT_TASK, "benchmark", len(rows))
        await self.teach(self.lessons(rows, origin=Origin.IMPORT, import_id=new.id), new)

    @staticmethod
    def lessons(rows: Sequence[Labelled], **about: Any) -> list[NewSample]:
        """Labelled texts as samples; `about` are further fields of all of them."""
        return [NewSample(row.text, row.label, **about) for row in rows]

    async def teach(self, samples: Sequence[NewSample], *imports: NewImport) -> list[str]:
        """Accepts samples and learns them as `worker.loop.LearnerLoop` does; an id for each."""
        ids = [receipt.id for receipt in await self.samples.accept(samples, imports=imports)]
        await self._consume(list(dict.fromkeys(ids)))
        return ids

    async def retract(self, sample_ids: Sequence[str]) -> None:
        """Takes learned samples out again, as the client that sent them may ask."""
        for sample_id in sample_ids:
            await self.samples.request_retraction(sample_id)
        await self._consume(sample_ids)

    async def rest(self) -> None:
        """Housekeeping of a quiet moment: lambda and temperature, retention."""
        if self._retune:
            await self._parts.retuning.maintain(lambda: False)
        await self._parts.publisher.retire_old(self._parts.head_update.protected)

    async def consolidate(self) -> Consolidated:
        """Trains the encoder on what is in the store and passes it through the gate; a refusal changes nothing.

        The same calls as those of the worker and of its child, in this process, so that embeddings are remembered.
        """
        state, begun = self.runner.state, time.perf_counter()
        if state is None:
            raise BenchmarkFailed("there is no version yet that could be consolidated")
        cause = Cause(state.version, _TRIGGER)
        folder = self._parts.consolidator.prepare(state, cause)
        configure_training(self.settings.threads)
        stores = TrainingStores(self.samples, self.ledger, self._artefacts)
        await consolidate(folder, stores, self.settings, Progress(StringIO()))
        metrics = Result.read(folder).metrics
        serving = state.encoder
        # The gate takes the time of both encoders, not that of looking something up.
        with serving.uncached() if isinstance(serving, CachedEncoder) else nullcontext():
            version = await self._parts.consolidator.adopt(self.runner, folder, cause)
        shutil.rmtree(folder)
        outcome = "unchanged" if version is None else "refused" if version.state is VersionState.REFUSED else "promoted"
        reasons = () if version is None else tuple(version.gate["reasons"])
        return Consolidated(outcome, reasons, time.perf_counter() - begun, metrics)

    async def scores(self, questions: Questions, task: str = DEFAULT_TASK) -> Scores:
        """The pair's scores of the version that serves, from its files; their order is that of its probabilities."""
        model = await self.classifier()
        heads = model.heads[task]
        key = (model.manifest.encoder_digest, model.manifest.files[FEATURES_FILE])
        phi = questions.remember(key, lambda: model.features.expand(model.embed(questions.texts)))
        return Scores(heads.labels, heads.scores(phi, heads.words(questions.texts)))

    async def words_of(self, questions: Questions, task: str = DEFAULT_TASK) -> Json:
        """The weight of the words in the pair, and the share of the texts, in per cent, that they answer alone."""
        heads = (await self.classifier()).heads[task]
        words = heads.words(questions.texts)
        if heads.lexical is None or words is None:
            return {"words": 0.0, "by_words": 0.0}
        alone = heads.fast_answers(questions.texts, words, 1)
        share = sum(answer is not None for answer in alone) / len(alone)
        return {"words": heads.lexical.stacking.words, "by_words": 100.0 * share}

    async def classifier(self) -> Classifier:
        """The live version, loaded as the app loads it. Raises `BenchmarkFailed` where there is none."""
        live = await self.ledger.live()
        if live is None:
            raise BenchmarkFailed("there is no version yet: too little has been taught")
        if self._classifier is None or self._classifier.number != live.number:
            last = self._classifier
            reuse = last if last is not None and last.manifest.encoder_digest == live.encoder_digest else None
            files = reuse.manifest.files.items() if reuse is not None else ()
            in_memory = frozenset(digest for path, digest in files if path.startswith(f"{ENCODER_FOLDER}/"))
            folder = self._artefacts.open(live.number, skip=in_memory)
            self._classifier = load_classifier(folder, encoder=self._encoder(folder.path, live.encoder_digest))
        return self._classifier

    async def close(self) -> None:
        """Closes its database and removes its files: a program makes dozens of these."""
        await self._database.dispose()
        shutil.rmtree(self.root, ignore_errors=True)

    def _encoder(self, folder: Path, digest: str) -> Encoder:
        """The learner's own where it is the same one; a trained one is no other learner's, and goes with this one."""
        state = self.runner.state
        if state is not None and state.encoder.digest == digest:
            return state.encoder
        return self._workshop.open(folder / ENCODER_FOLDER, digest)

    async def _consume(self, sample_ids: Sequence[str]) -> None:
        settings = self.settings
        if self.runner.state is None:
            queued = await self.samples.queued(MOST_SAMPLES)
            await self._parts.bootstrap.make([sample.id for sample in queued])
            return
        for start in range(0, len(sample_ids), settings.bulk_batch):
            await self.runner.catch_up()
            await self._parts.head_update.learn(sample_ids[start : start + settings.bulk_batch])
            if self._retune and self._parts.retuning.is_overdue():
                await self._parts.retuning.maintain(lambda: False)
        left = await self.samples.queued(settings.bulk_batch)
        if left:  # the sweep: samples that a newer label overtook while their batch was refused
            await self._parts.head_update.learn([sample.id for sample in left])
        self._unretired += 1
        if self._unretired >= _RETIRE_EVERY:
            self._unretired = 0
            await self._parts.publisher.retire_old(self._parts.head_update.protected)

"""One consolidation, top-down: read, select, train, export, embed again, write the result.

A job that names an encoder has another way: `replacement.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import structlog

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.device import choose_device, use_bfloat16
from pawl.classifier.encoders.export import write_encoder
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST, SPEC_FILE, TOKENIZER_FILE, EncoderSpec, Precision
from pawl.domain.encoders import NOTHING_TO_TRAIN
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.json_values import Json
from pawl.ports import VersionFolder
from pawl.settings import Settings
from worker.consolidation.data.inputs import TrainingStores, read_inputs, read_samples
from worker.consolidation.data.material import choose, gather
from worker.consolidation.data.replay import Selection, coreset
from worker.consolidation.job import Job, Result, write_embeddings
from worker.consolidation.memory import return_free_memory
from worker.consolidation.progress import Progress
from worker.consolidation.pruning import compress
from worker.consolidation.re_embedding import embed_again
from worker.consolidation.replacement import replace_encoder
from worker.consolidation.training.callbacks import Callbacks, Metrics
from worker.consolidation.training.fine_tuning import fine_tune
from worker.consolidation.training.trainer import TrainingOutcome

log = structlog.get_logger(__name__)

_HELDOUT_SHARE = 0.3  # of the coreset; 10 % of all samples are held out, so it only binds in large stores


async def consolidate(folder: Path, stores: TrainingStores, settings: Settings, progress: Progress) -> None:
    """Does the job in `folder` and writes the result there, `result.json` last."""
    # What an earlier child left here must not be taken for this one's if this one dies.
    Result.remove(folder)
    shutil.rmtree(folder / ENCODER_FOLDER, ignore_errors=True)
    job = Job.read(folder)
    if job.encoder is None:
        await Consolidation(folder, job, stores, settings, progress).run()
    else:
        await replace_encoder(folder, job, job.encoder, stores, settings, progress)
    progress.write("done", 1, 1)


@dataclass(frozen=True, slots=True)
class Consolidation:
    """A job that trains the live encoder."""

    folder: Path
    job: Job
    stores: TrainingStores
    settings: Settings
    progress: Progress

    async def run(self) -> None:
        """Reads, selects, trains, compresses, exports, embeds, and writes the result."""
        folder, job, settings, progress = self.folder, self.job, self.settings, self.progress
        samples = self.stores.samples
        with progress.phase("loading"):
            live = self.stores.artefacts.open(job.version)
            inputs = await read_inputs(samples, self.stores.ledger, job.version, job.watermark)
            selection = choose(inputs, settings, job.seed)
        new, replayed = len(selection.new), len(selection.replayed)
        log.info("selected", new=new, replayed=replayed, validation=len(selection.validation))
        if why := self._futile(live, selection):
            self._leave_unchanged(live, {"unchanged": why})
            return
        with progress.phase("training"):
            encoder, outcome, trained, metrics = await self._train(live, selection)
        if not outcome.changed:
            self._leave_unchanged(live, metrics | {"unchanged": "validation did not improve"})
            return
        if settings.pruned_share:
            with progress.phase("compressing"):
                metrics["pruning"] = await self._compress(encoder, trained)
        with progress.phase("exporting"):
            return_free_memory()
            tokenizer = (live.path / ENCODER_FOLDER / TOKENIZER_FILE).read_text(encoding="utf-8")
            spec = replace(encoder.spec, precision=_precision(settings, encoder.spec))
            # The live version's tokenizer as it is: training changes weights alone, and a byte more is another digest.
            digest = write_encoder(encoder.module.model, tokenizer, spec, folder / ENCODER_FOLDER, spend=True)
            del encoder  # hundreds of megabytes that are not needed beside the one that serves
            return_free_memory()
        chosen = coreset(inputs.learned, limit=settings.coreset, heldout_share=_HELDOUT_SHARE, seed=job.seed)
        chosen += [sample.id for sample in inputs.golden]
        with progress.phase("embedding", len(chosen)):
            # With the artefact as exported, in its precision and on its backend: heads must learn on what will serve.
            serving = Backends.of(settings).open(folder / ENCODER_FOLDER, digest)
            write_embeddings(folder, *await embed_again(samples, serving, chosen, progress))
        new = sum(sample.id in trained for sample in selection.new)  # some were retracted meanwhile
        Result(
            encoder_digest=digest,
            trained=tuple(sorted(trained)),
            samples_new=new,
            samples_replayed=len(trained) - new,
            watermark=job.watermark,
            metrics=self._metrics(metrics),
        ).write(folder)

    def _futile(self, live: VersionFolder, selection: Selection) -> str:
        """Why there is nothing to train, empty where there is something."""
        if live.manifest.encoder_digest == NO_ENCODER_DIGEST:
            return NOTHING_TO_TRAIN
        if self.settings.freeze == "head":
            return "freeze=head"
        return "" if selection.new else "no new samples"

    async def _train(
        self, live: VersionFolder, selection: Selection
    ) -> tuple[TorchEncoder, TrainingOutcome, frozenset[str], Json]:
        """Fine-tunes a copy of the live encoder; also returns the ids it was trained on, and metrics."""
        material = await gather(live, selection, self.stores.samples, self.settings)
        device = choose_device(self.settings.device)
        encoder = TorchEncoder(live.path / ENCODER_FOLDER, device=str(device), digest=live.manifest.encoder_digest)
        callbacks = self._callbacks("training")
        recipe, outcome = fine_tune(encoder, material, self.settings, self.job.seed, callbacks=callbacks)
        texts = len({sample.text for sample in material.samples})
        metrics = {"device": str(device), "dtype": "bfloat16" if recipe.bf16 else "float32", "texts": texts}
        return encoder, outcome, material.ids, metrics | _describe(outcome)

    async def _compress(self, encoder: TorchEncoder, trained: frozenset[str]) -> Json:
        """Prunes the encoder; it learns to do without from the texts it was trained on, and from no others."""
        # Sorted: the order of a set differs in each process, and the same seed must give the same batches.
        samples = await read_samples(self.stores.samples, sorted(trained))
        texts = sorted({sample.text for sample in samples.values()})
        share, bf16 = self.settings.pruned_share, use_bfloat16(self.settings.bf16, encoder.device)
        return compress(encoder, texts, share, self.job.seed, bf16=bf16, callbacks=self._callbacks("compressing"))

    def _leave_unchanged(self, live: VersionFolder, metrics: Json) -> None:
        """A result that names the live encoder and no trained sample; its embeddings are those the parent has."""
        shutil.copytree(live.path / ENCODER_FOLDER, self.folder / ENCODER_FOLDER)
        dimension = EncoderSpec.from_file(self.folder / ENCODER_FOLDER / SPEC_FILE).dimension
        write_embeddings(self.folder, [], np.zeros((0, dimension), dtype=np.float32))
        digest, watermark = live.manifest.encoder_digest, self.job.watermark
        Result(encoder_digest=digest, watermark=watermark, metrics=self._metrics(metrics)).write(self.folder)

    def _metrics(self, metrics: Json) -> Json:
        return {"wall_s": self.progress.wall_s, "trigger": self.job.trigger, **metrics}

    def _callbacks(self, phase: str) -> Callbacks:
        def report(step: int, steps: int, metrics: Metrics) -> None:
            self.progress.write(phase, step, steps, **metrics)

        return Callbacks(self.progress.due, report)


def _precision(settings: Settings, live: EncoderSpec) -> Precision:
    """As it is served, unless the settings say how."""
    return settings.precision if "compression" in settings.model_fields_set else live.precision


def _describe(outcome: TrainingOutcome) -> Json:
    history = [asdict(evaluation) for evaluation in outcome.history]
    return {
        "steps": outcome.steps,
        "planned_steps": outcome.planned_steps,
        "samples_per_s": round(outcome.samples / outcome.seconds, 1),
        "trained": str(outcome.trained),
        "trained_parameters": outcome.trained.parameters,
        "accumulated": outcome.accumulated,
        "cached_states": outcome.cached_states,
        "history": history,
        "best_step": None if outcome.best is None else outcome.best.step,
        "validation_before": None if outcome.before is None else outcome.before.accuracy,
        "validation_after": None if outcome.best is None else outcome.best.accuracy,
    }

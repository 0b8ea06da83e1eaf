"""One consolidation, top-down: read, select, train, export, embed again, write the result.

A job that names an encoder has another way: `replacement.py`.
"""

from __future__ import annotations

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import structlog

from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.device import choose_device, use_bfloat16
from pawl.classifier.encoders.export import write_encoder
from pawl.classifier.encoders.spec import SPEC_FILE, TOKENIZER_FILE, EncoderSpec, Precision
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.json_values import Json
from pawl.ports import SampleStore, VersionFolder
from pawl.settings import Settings
from worker.consolidation.data.inputs import TrainingStores, read_inputs, read_samples
from worker.consolidation.data.material import choose, gather
from worker.consolidation.data.replay import Selection, coreset
from worker.consolidation.job import Job, Result, write_embeddings
from worker.consolidation.progress import Progress
from worker.consolidation.pruning import compress
from worker.consolidation.re_embedding import embed_again
from worker.consolidation.replacement import replace_encoder
from worker.consolidation.training.callbacks import Callbacks
from worker.consolidation.training.fine_tuning import fine_tune
from worker.consolidation.training.trainer import TrainingOutcome

log = structlog.get_logger(__name__)

_HELDOUT_SHARE = 0.3  # of the coreset; 10 % of all samples are held out, so it only binds in large stores


async def consolidate(folder: Path, stores: TrainingStores, settings: Settings, progress: Progress) -> None:
    """Does the job in `folder` and writes the result there, `result.json` last."""
    Result.remove(folder)
    shutil.rmtree(folder / ENCODER_FOLDER, ignore_errors=True)
    job = Job.read(folder)
    if job.encoder is not None:
        await replace_encoder(folder, job, job.encoder, stores, settings, progress)
        return
    with progress.phase("loading"):
        live = stores.artefacts.open(job.version)
        inputs = await read_inputs(stores.samples, stores.ledger, job.version, job.watermark)
        selection = choose(inputs, settings, job.seed)
    log.info("selected", new=len(selection.new), replayed=len(selection.replayed), validation=len(selection.validation))
    if settings.freeze == "head" or not selection.new:
        why = "freeze=head" if settings.freeze == "head" else "no new samples"
        _leave_unchanged(folder, job, live, progress, {"trigger": job.trigger, "unchanged": why})
        return
    with progress.phase("training"):
        encoder, outcome, trained, metrics = await _train(live, selection, stores.samples, settings, job, progress)
    metrics |= _describe(outcome) | {"trigger": job.trigger}
    if not outcome.changed:
        _leave_unchanged(folder, job, live, progress, metrics | {"unchanged": "validation did not improve"})
        return
    if settings.pruned_share:
        with progress.phase("compressing"):
            metrics["pruning"] = await _compress(encoder, trained, stores.samples, settings, job, progress)
    with progress.phase("exporting"):
        digest = write_encoder(
            encoder.module.model,
            (live.path / ENCODER_FOLDER / TOKENIZER_FILE).read_text(encoding="utf-8"),
            replace(encoder.spec, precision=_precision(settings, encoder.spec)),
            folder / ENCODER_FOLDER,
        )
    chosen = coreset(inputs.learned, limit=settings.coreset, heldout_share=_HELDOUT_SHARE, seed=job.seed)
    chosen += [sample.id for sample in inputs.golden]
    with progress.phase("embedding", len(chosen)):
        serving = Backends.of(settings).open(folder / ENCODER_FOLDER, digest)
        write_embeddings(folder, *await embed_again(stores.samples, serving, chosen, progress))
    new = sum(sample.id in trained for sample in selection.new)
    result = Result(
        encoder_digest=digest,
        trained=tuple(sorted(trained)),
        samples_new=new,
        samples_replayed=len(trained) - new,
        watermark=job.watermark,
        metrics={"wall_s": progress.wall_s, **metrics},
    )
    result.write(folder)
    progress.write("done", 1, 1)


def _precision(settings: Settings, live: EncoderSpec) -> Precision:
    """As it is served, unless the settings say how."""
    return settings.precision if "compression" in settings.model_fields_set else live.precision


def _leave_unchanged(folder: Path, job: Job, live: VersionFolder, progress: Progress, metrics: Json) -> None:
    """A result that names the live encoder and no trained sample; its embeddings are those the parent has."""
    shutil.copytree(live.path / ENCODER_FOLDER, folder / ENCODER_FOLDER)
    dimension = EncoderSpec.from_file(folder / ENCODER_FOLDER / SPEC_FILE).dimension
    write_embeddings(folder, [], np.zeros((0, dimension), dtype=np.float32))
    metrics = {"wall_s": progress.wall_s, **metrics}
    Result(encoder_digest=live.manifest.encoder_digest, watermark=job.watermark, metrics=metrics).write(folder)
    progress.write("done", 1, 1)


async def _train(
    live: VersionFolder, selection: Selection, store: SampleStore, settings: Settings, job: Job, progress: Progress
) -> tuple[TorchEncoder, TrainingOutcome, frozenset[str], Json]:
    """Fine-tunes a copy of the live encoder; also returns the ids it was trained on."""
    material = await gather(live, selection, store, settings)
    device = choose_device(settings.device)

    def report(step: int, steps: int, metrics: dict[str, float]) -> None:
        progress.write("training", step, steps, **metrics)

    encoder = TorchEncoder(live.path / ENCODER_FOLDER, device=str(device), digest=live.manifest.encoder_digest)
    callbacks = Callbacks(progress.due, report)
    recipe, outcome = fine_tune(encoder, material, settings, job.seed, callbacks=callbacks)
    texts = len({sample.text for sample in material.samples})
    metrics = {"device": str(device), "dtype": "bfloat16" if recipe.bf16 else "float32", "texts": texts}
    return encoder, outcome, material.ids, metrics


async def _compress(
    encoder: TorchEncoder, trained: frozenset[str], store: SampleStore, settings: Settings, job: Job, progress: Progress
) -> Json:
    """Prunes the encoder; it learns to do without from the texts it was trained on, and from no others."""
    texts = sorted({sample.text for sample in (await read_samples(store, sorted(trained))).values()})

    def report(step: int, steps: int, metrics: dict[str, float]) -> None:
        progress.write("compressing", step, steps, **metrics)

    bf16 = use_bfloat16(settings.bf16, encoder.device)
    callbacks = Callbacks(progress.due, report)
    return compress(encoder, texts, settings.pruned_share, job.seed, bf16=bf16, callbacks=callbacks)


def _describe(outcome: TrainingOutcome) -> Json:
    history = [asdict(evaluation) for evaluation in outcome.history]
    return {
        "steps": outcome.steps,
        "planned_steps": outcome.planned_steps,
        "samples_per_s": round(outcome.samples / outcome.seconds, 1),
        "accumulated": outcome.accumulated,
        "cached_states": outcome.cached_states,
        "history": history,
        "best_step": None if outcome.best is None else outcome.best.step,
        "validation_before": None if outcome.before is None else outcome.before.accuracy,
        "validation_after": None if outcome.best is None else outcome.best.accuracy,
    }

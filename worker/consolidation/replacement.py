"""Another encoder instead of a trained one: exported as it was published, and the store embedded with it.

Embeddings go into the store page by page, under the digest of the new encoder, which nothing serves yet. So what is
done stays done when the process ends, and the next one goes on from there.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import structlog

from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.home_encoder import export_into_home
from pawl.classifier.encoders.spec import encoder_digest
from pawl.classifier.encoders.tokenization import encode_with_cuts
from pawl.domain.encoders import EncoderChoice
from pawl.domain.errors import TrainingFailed
from pawl.domain.manifest import ENCODER_FOLDER
from pawl.ports import Encoder, SampleStore
from pawl.settings import Settings
from worker.consolidation.data.inputs import TrainingStores, read_inputs, read_samples
from worker.consolidation.job import Job, Result, write_embeddings
from worker.consolidation.progress import Progress

_PAGE = 128
log = structlog.get_logger(__name__)


async def replace_encoder(
    folder: Path,
    job: Job,
    choice: EncoderChoice,
    stores: TrainingStores,
    settings: Settings,
    progress: Progress,
) -> None:
    """Does a job that names an encoder. Raises `EncoderRejected` for one that cannot be used."""
    with progress.phase("exporting"):
        source, origin = export_into_home(choice, settings.home_path)
        shutil.copytree(source, folder / ENCODER_FOLDER)
        encoder = Backends.of(settings).open(folder / ENCODER_FOLDER, encoder_digest(folder / ENCODER_FOLDER))
    inputs = await read_inputs(stores.samples, stores.ledger, job.version, job.watermark)
    ids = [sample.id for sample in (*inputs.learned, *inputs.golden)]
    with progress.phase("embedding", len(ids)):
        computed = await embed_into(stores.samples, encoder, ids, progress)
    log.info("embedded", samples=len(ids), computed=computed)
    write_embeddings(folder, [], np.zeros((0, encoder.dimension), dtype=np.float32))  # the store has them
    result = Result(
        encoder_digest=encoder.digest,
        samples_replayed=len(ids),
        watermark=0,  # it has seen none of them
        origin=origin,
        metrics={"wall_s": progress.wall_s, "embedded": len(ids), "origin": origin.to_json()},
    )
    result.write(folder)


async def embed_into(samples: SampleStore, encoder: Encoder, ids: Sequence[str], progress: Progress) -> int:
    """Sees to it that each sample has an embedding under the encoder; returns how many had to be computed.

    Raises `TrainingFailed` when a number is not finite: such an encoder must not get as far as the gate.
    """
    computed = 0
    for start in range(0, len(ids), _PAGE):
        page = ids[start : start + _PAGE]
        known = await samples.get_embeddings(encoder.digest, page)
        missing = await read_samples(samples, [sample_id for sample_id in page if sample_id not in known])
        if missing:
            ids_here = list(missing)
            z, cuts = encode_with_cuts(encoder, [sample.text for sample in missing.values()])
            if not np.isfinite(z).all():
                raise TrainingFailed(problem="the encoder gives numbers that are not finite")
            # Kept with the embedding, because where a text is cut depends on the encoder.
            cut = {ids_here[row]: digest for row, digest in cuts.items()}
            await samples.put_embeddings(encoder.digest, dict(zip(missing, z, strict=True)), cut)
            computed += len(missing)
        if progress.due():
            progress.write("embedding", start + len(page), len(ids))
    return computed

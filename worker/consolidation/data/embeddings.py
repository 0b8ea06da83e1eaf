"""Embeddings of samples under the live encoder."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pawl.domain.samples import Sample
from pawl.ports import Encoder, Floats, SampleStore


async def known_embeddings(samples: SampleStore, encoder: Encoder, wanted: Mapping[str, Sample]) -> Floats:
    """z, shape (len(wanted), d), under a live encoder: kept ones from the store, the others computed."""
    kept = await samples.get_embeddings(encoder.digest, list(wanted))
    missing = [sample for sample in wanted.values() if sample.id not in kept]
    if missing:
        computed = encoder.encode([sample.text for sample in missing])
        kept.update((sample.id, z) for sample, z in zip(missing, computed, strict=True))
    # In the order of `wanted`: the caller finds a sample's z by its position.
    return np.stack([kept[sample_id] for sample_id in wanted])

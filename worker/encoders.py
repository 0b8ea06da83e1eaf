"""The encoder a first version starts from, exported once per home."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from app.core.classifier.encoder_folder import SPEC_FILE, EncoderSpec
from app.core.classifier.export import encoder_digest, export_encoder
from app.core.classifier.features import RandomFeatures
from app.core.ports import Encoder
from app.core.settings import Settings
from worker.state import LearnerState

Open = Callable[[Path, str], Encoder]
"""(encoder folder, digest) -> encoder."""


def first_state(settings: Settings, open_encoder: Open) -> LearnerState:
    """An empty state on the encoder the settings name; exports it where this home has not done so yet."""
    chosen = (
        settings.encoder, settings.encoder_sha256, settings.max_tokens, settings.pooled_layers, settings.precision
    )  # fmt: skip
    name = hashlib.sha256("\n".join(map(str, chosen)).encode()).hexdigest()
    folder = settings.home_path / "encoders" / name[:16]
    if not folder.is_dir():
        unfinished = folder.with_suffix(".unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        export_encoder(
            settings.encoder,
            unfinished,
            max_tokens=settings.max_tokens,
            pooled_layers=settings.pooled_layers,
            sha256=settings.encoder_sha256,
            precision=settings.precision,
        )
        unfinished.rename(folder)  # whole or not at all: a crash in the middle of an export leaves no half encoder
    encoder = open_encoder(folder, encoder_digest(folder))
    spec = EncoderSpec.from_file(folder / SPEC_FILE)
    features = RandomFeatures.create(spec.hidden, settings.random_features, settings.seed, spec.dimension)
    return LearnerState(0, encoder, folder, features, settings)

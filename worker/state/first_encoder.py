"""The state of a learner that has learned nothing yet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pawl.classifier.encoders.home_encoder import export_into_home, features_for, lexical_for
from pawl.classifier.encoders.spec import encoder_digest
from pawl.ports import Encoder
from pawl.settings import Settings
from worker.state.learner_state import LearnerState

Open = Callable[[Path, str], Encoder]
"""(encoder folder, digest) -> encoder."""


def first_state(settings: Settings, open_encoder: Open) -> LearnerState:
    """An empty state on the encoder the settings name; exports it where this home has not done so yet."""
    folder, origin = export_into_home(settings.encoder_choice, settings.home_path)
    encoder = open_encoder(folder, encoder_digest(folder))
    return LearnerState(
        0,
        encoder,
        folder,
        features_for(folder, origin.choice),
        settings,
        made_with=origin,
        lexical=lexical_for(origin.choice),
    )

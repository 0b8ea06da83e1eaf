"""Encoders as they were published, exported once per home, and the features that are made of what they give."""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pawl.classifier.encoders.source import find_encoder
from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec
from pawl.classifier.features import RandomFeatures
from pawl.classifier.lexical import LexicalFeatures
from pawl.domain.encoders import EncoderChoice, EncoderOrigin
from pawl.domain.errors import EncoderRejected
from pawl.files import atomic_folder


def features_for(folder: Path, choice: EncoderChoice) -> RandomFeatures:
    """The random features of a choice, on the encoder in a folder."""
    spec = EncoderSpec.from_file(folder / SPEC_FILE)
    count = 0 if spec.is_none else choice.random_features
    return RandomFeatures.create(spec.hidden, count, choice.seed, spec.dimension)


def lexical_for(choice: EncoderChoice) -> LexicalFeatures | None:
    """The lexical features of a choice; None where it has none. Raises `EncoderRejected` where no features are left."""
    if choice.lexical_size:
        return LexicalFeatures(choice.lexical_size)
    if choice.is_none:
        problem = "without an encoder texts are known by their words alone: set PAWL_LEXICAL_SIZE to more than 0"
        raise EncoderRejected(path=choice.encoder, problem=problem)
    return None


def export_into_home(choice: EncoderChoice, home: Path) -> tuple[Path, EncoderOrigin]:
    """The folder with an encoder's export, which is made where this home has none of it; and what it is made of.

    What is exported is known by its contents: an encoder that was moved is not exported again, and one whose folder
    has other contents than before is.

    Raises `EncoderRejected`.
    """
    source = find_encoder(choice.encoder, choice.encoder_sha256)
    origin = EncoderOrigin(choice, source.digest(), source.weights_sha256)
    parts = (origin.source_digest, choice.max_tokens, choice.pooled_layers, choice.precision, choice.encoder_prefix)
    name = hashlib.sha256("\n".join(map(str, parts)).encode()).hexdigest()
    folder = home / "encoders" / name[:16]
    with _alone(folder):
        _export(choice, folder)
    return folder, origin


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One process at a time: a learner and a command that learns for want of one may start together."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _export(choice: EncoderChoice, folder: Path) -> None:
    # Asked with the lock in hand: whoever waited for it finds the folder there.
    if not folder.is_dir():
        # Not above: the app asks what a choice means, and has no need of what exports one.
        from pawl.classifier.encoders.export import export_encoder

        with atomic_folder(folder) as unfinished:
            export_encoder(
                choice.encoder,
                unfinished,
                max_tokens=choice.max_tokens,
                pooled_layers=choice.pooled_layers,
                sha256=choice.encoder_sha256,
                precision="int8" if choice.precision == "int8" else "float32",
                prefix=choice.encoder_prefix,
            )

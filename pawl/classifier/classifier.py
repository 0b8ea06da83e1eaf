"""A loaded version: encoder, then random features, then a head for each task."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.spec import digest_of_files
from pawl.classifier.encoders.tokenization import reader_of
from pawl.classifier.features import RandomFeatures
from pawl.classifier.head import LinearHead
from pawl.classifier.novelty import Novelty
from pawl.domain.errors import ArtefactCorrupt, UnknownTask
from pawl.domain.manifest import (
    ENCODER_FOLDER,
    FEATURES_FILE,
    Manifest,
    head_file,
    novelty_file,
)
from pawl.domain.predictions import Answer, LabelScore, with_warnings
from pawl.domain.reading import TextReading
from pawl.domain.samples import DEFAULT_TASK
from pawl.ports import Encoder, Floats, VersionFolder


class Classifier:
    """One version, loaded. Immutable; safe to call from threads.

    Raises:
        ValueError: The parts do not fit together.
    """

    def __init__(
        self,
        number: int,
        manifest: Manifest,
        encoder: Encoder,
        features: RandomFeatures,
        heads: Mapping[str, LinearHead],
        novelty: Mapping[str, Novelty],
    ) -> None:
        d = encoder.dimension
        if features.dimension != d:
            raise ValueError(f"embeddings of {d}, features of {features.dimension}")
        for task, head in heads.items():
            if task not in novelty or novelty[task].dimension > d:
                raise ValueError(f"there is no novelty for task {task!r} on embeddings of {d}")
            if head.width != features.width:
                raise ValueError(f"head {task!r} takes {head.width} features, there are {features.width}")
        self.number = number
        self.manifest = manifest
        self.encoder = encoder
        self.features = features
        self.heads = dict(heads)
        self.novelty = dict(novelty)
        self._reader = reader_of(encoder)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks it answers, sorted."""
        return tuple(sorted(self.heads))

    def embed(self, texts: Sequence[str]) -> Floats:
        """Returns z, shape (len(texts), d), in the order of the texts.

        Raises `ArtefactCorrupt` when the encoder gives numbers that are not finite, so that none is ever served.
        """
        z = self.encoder.encode(texts)
        if not np.isfinite(z).all():
            raise ArtefactCorrupt(
                path=f"{ENCODER_FOLDER} of version {self.number}", problem="embeddings are not finite"
            )
        return z

    @property
    def max_tokens(self) -> int:
        """Tokens that the encoder reads of a text; 0 for an encoder without a tokenizer."""
        return 0 if self._reader is None else self._reader.max_tokens

    def read(self, texts: Sequence[str]) -> list[TextReading]:
        """Tells how much of each text the encoder reads; empty for an encoder without a tokenizer.

        Free for the texts that this thread embedded last.
        """
        return [] if self._reader is None else self._reader.read(texts)

    def answer(self, z: Floats, task: str = DEFAULT_TASK, top_k: int = 1) -> list[Answer]:
        """Returns an answer for each embedding of z, shape (n, d): its `top_k` best labels, best first.

        Labels of equal probability come in the order of their columns. Raises `UnknownTask`.
        """
        head = self.heads.get(task)
        if head is None:
            raise UnknownTask(task=task, version=self.number, known=list(self.tasks))
        if not len(z):
            return []
        scores = head.scores(self.features.expand(z))
        probabilities, novelty = head.calibrated(scores), self.novelty[task].rank(z, scores)
        count = max(1, min(top_k, len(head.labels)))
        return [
            Answer(
                tuple(LabelScore(head.labels[column], float(row[column])) for column in _best(row, count)),
                float(unusual),
            )
            for row, unusual in zip(probabilities, novelty, strict=True)
        ]

    def predict(self, texts: Sequence[str], task: str = DEFAULT_TASK, top_k: int = 1) -> list[Answer]:
        """Embeds and answers, in the order of the texts. They are normalised to NFC, as the service does.

        Raises `UnknownTask`.
        """
        read = [unicodedata.normalize("NFC", text) for text in texts]
        return with_warnings(self.answer(self.embed(read), task, top_k), self.read(read))


def load_classifier(
    folder: VersionFolder, *, encoder: Encoder | None = None, backends: Backends | None = None
) -> Classifier:
    """Loads a verified version folder.

    Args:
        folder: As `ArtefactStore.open` returns it: every file has the digest its manifest says.
        encoder: An encoder that is loaded already. It is used if its digest is the version's.
        backends: Opens the encoder of the version; without it, ONNX Runtime on all cores.

    Raises:
        ArtefactCorrupt: A file is missing or odd, or the parts are not those the manifest names.
    """
    manifest = folder.manifest
    # `open` has checked each file; here that the digests, by which answers are traced, are those of these files.
    _check_digests(folder)
    if encoder is None or encoder.digest != manifest.encoder_digest:
        encoder = (backends or Backends()).open(folder.path / ENCODER_FOLDER, manifest.encoder_digest)
    heads = {
        task: LinearHead.from_file(folder.path / head_file(task), info.labels, info.temperature)
        for task, info in manifest.heads.items()
    }
    features = RandomFeatures.from_file(folder.path / FEATURES_FILE, encoder.dimension)
    novelty = {task: Novelty.from_file(folder.path / novelty_file(task)) for task in manifest.heads}
    try:
        return Classifier(folder.number, manifest, encoder, features, heads, novelty)
    except ValueError as error:
        raise ArtefactCorrupt(path=folder.path, problem=str(error)) from error


def _check_digests(folder: VersionFolder) -> None:
    """Raises `ArtefactCorrupt` where a digest that the ledger shows (encoder, heads) is not that of the files."""
    files, manifest = folder.manifest.files, folder.manifest
    prefix = f"{ENCODER_FOLDER}/"
    digest = digest_of_files({p.removeprefix(prefix): d for p, d in files.items() if p.startswith(prefix)})
    if digest != manifest.encoder_digest:
        problem = f"its digest is {digest}, the manifest names {manifest.encoder_digest}"
        raise ArtefactCorrupt(path=folder.path / ENCODER_FOLDER, problem=problem)
    for task, info in manifest.heads.items():
        path = head_file(task)
        if files.get(path) != info.digest:
            problem = f"its sha256 is {files.get(path)}, the manifest names {info.digest}"
            raise ArtefactCorrupt(path=folder.path / path, problem=problem)


def _best(row: Floats, count: int) -> list[int]:
    """Returns the columns of the `count` largest numbers, largest first; of equal numbers the lower column first."""
    if count == 1:
        return [int(row.argmax())]
    threshold = np.partition(row, -count)[-count]
    columns = np.flatnonzero(row >= threshold)  # at least `count`, in rising order, so ties are all among them
    ranked: list[int] = columns[np.argsort(-row[columns], kind="stable")][:count].tolist()
    return ranked

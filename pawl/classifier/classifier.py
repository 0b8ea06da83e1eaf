"""A loaded version: encoder, then random features, then the heads of each task."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np

from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.spec import digest_of_files
from pawl.classifier.encoders.tokenization import reader_of
from pawl.classifier.features import RandomFeatures
from pawl.classifier.served_heads import ServedHeads
from pawl.domain.errors import ArtefactCorrupt, UnknownTask
from pawl.domain.manifest import ENCODER_FOLDER, FEATURES_FILE, Manifest
from pawl.domain.predictions import Answer, with_warnings
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
        heads: Mapping[str, ServedHeads],
    ) -> None:
        d = encoder.dimension
        if features.dimension != d:
            raise ValueError(f"embeddings of {d}, features of {features.dimension}")
        for task, head in heads.items():
            if head.novelty.dimension > d:
                raise ValueError(f"there is no novelty for task {task!r} on embeddings of {d}")
            if head.semantic.width != features.width:
                raise ValueError(f"head {task!r} takes {head.semantic.width} features, there are {features.width}")
        self.number = number
        self.manifest = manifest
        self.encoder = encoder
        self.features = features
        self.heads = dict(heads)
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

    def is_fast(self, task: str = DEFAULT_TASK) -> bool:
        """Whether there are texts that the task's lexical head answers alone. Raises `UnknownTask`."""
        return self._heads(task).is_fast

    def words(self, texts: Sequence[str], task: str = DEFAULT_TASK) -> Floats | None:
        """Returns what the lexical head has to say of texts in NFC, a row each; None where the task has no such head.

        A row is opaque: for `fast_answers` and `answer`.

        Raises `UnknownTask`.
        """
        return self._heads(task).words(texts)

    def fast_answers(
        self, texts: Sequence[str], words: Floats, task: str = DEFAULT_TASK, top_k: int = 1
    ) -> list[Answer | None]:
        """Returns the answers of the lexical head alone; None for each text that needs the encoder, too.

        Args:
            texts: In NFC, n of them.
            words: Their rows of `words`.
            task: Raises `UnknownTask`.
            top_k: As in `answer`.
        """
        return self._heads(task).fast_answers(texts, words, top_k)

    def answer(self, z: Floats, task: str = DEFAULT_TASK, top_k: int = 1, words: Floats | None = None) -> list[Answer]:
        """Returns an answer of both heads for each embedding of z, shape (n, d): its `top_k` best labels, best first.

        Labels of equal probability come in the order of their columns.

        Args:
            z: Embeddings.
            task: Raises `UnknownTask`.
            top_k: At least one label is told, and at most all.
            words: What `words` gave for the texts; `ValueError` where it is missing.
        """
        heads = self._heads(task)
        return heads.answer(self.features.expand(z), words, top_k) if len(z) else []

    def predict(self, texts: Sequence[str], task: str = DEFAULT_TASK, top_k: int = 1) -> list[Answer]:
        """Answers, in the order of the texts. They are normalised to NFC, as the service does.

        A text that words alone answer is not embedded. Raises `UnknownTask`.
        """
        read = [unicodedata.normalize("NFC", text) for text in texts]
        words = self.words(read, task)
        answers = [None] * len(read) if words is None else self.fast_answers(read, words, task, top_k)
        rows = [row for row, answer in enumerate(answers) if answer is None]
        rest = [read[row] for row in rows]
        slow = self.answer(self.embed(rest), task, top_k, None if words is None else words[rows]) if rest else []
        warned = iter(with_warnings(slow, self.read(rest)))
        return [next(warned) if answer is None else answer for answer in answers]

    def _heads(self, task: str) -> ServedHeads:
        heads = self.heads.get(task)
        if heads is None:
            raise UnknownTask(task=task, version=self.number, known=list(self.tasks))
        return heads


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
    heads = {task: ServedHeads.from_folder(folder.path, task, info) for task, info in manifest.heads.items()}
    features = RandomFeatures.from_file(folder.path / FEATURES_FILE, encoder.dimension)
    try:
        return Classifier(folder.number, manifest, encoder, features, heads)
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
    for path, digest in manifest.head_digests().items():
        if files.get(path) != digest:
            problem = f"its sha256 is {files.get(path)}, the manifest names {digest}"
            raise ArtefactCorrupt(path=folder.path / path, problem=problem)

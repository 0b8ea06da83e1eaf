"""The base of the backends: what they read from an `encoder/` folder, and how batches share the cores."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from pawl.classifier.encoders.spec import SPEC_FILE, EncoderSpec, encoder_digest
from pawl.classifier.encoders.tokenization import MAX_BATCH_TEXTS, TextTokenizer, TokenBatch
from pawl.ports import Floats
from pawl.processes.threads import thread_count

_WORTH_A_KERNEL = 4  # texts of a batch; in smaller batches each text costs more


class FolderEncoder:
    """An encoder folder's spec, tokenizer and digest; backends add `encode`.

    Equal digests give equal embeddings on one backend. `dimension` is d, the length of z.

    Args:
        folder: The folder.
        digest: The folder's digest where it is known and verified already; else it is computed from the files.

    Raises:
        ArtefactCorrupt: A file is missing or odd.
    """

    def __init__(self, folder: Path, digest: str | None) -> None:
        self.folder = folder
        self.spec = EncoderSpec.from_file(folder / SPEC_FILE)
        self.tokenizer = TextTokenizer(folder, self.spec)
        self.digest = encoder_digest(folder) if digest is None else digest
        self.dimension = self.spec.dimension


class ParallelEncoder(FolderEncoder, ABC):
    """A backend that runs a batch on one thread, and as many batches at a time as there are threads.

    Threads that share a batch wait for each other after every operator, and all of them for one that lost its core to
    the event loop or the learner: 16 texts of ~50 tokens at a time took 15.6 ms of CPU time each on two threads that
    share them, and 11.5 on two that do not (docs/log.md, 2026-11-26). Safe to call from several threads.

    Args:
        folder: The folder.
        digest: Its digest, or None.
        threads: Batches at a time; 0 means one for each core this process may use.
    """

    def __init__(self, folder: Path, digest: str | None, threads: int) -> None:
        super().__init__(folder, digest)
        self.threads = thread_count(threads)
        self._runners = ThreadPoolExecutor(self.threads, thread_name_prefix="pawl-encoder")

    @abstractmethod
    def embed(self, batch: TokenBatch) -> Floats:
        """Embeddings of a batch, shape (its texts, d), on the calling thread alone."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), float32, each layer's part of unit length, in the order of the texts."""
        z = np.empty((len(texts), self.spec.dimension), dtype=np.float32)

        def run(batch: TokenBatch) -> None:
            # Batches write into rows of their own, so no lock is needed.
            z[batch.rows] = self.embed(batch)

        batches = list(self.tokenizer.batches(texts, max_texts=self._share(len(texts))))
        # Nothing to run beside it, so no handover to the pool and back.
        if len(batches) == 1:
            run(batches[0])
        else:
            for _ in self._runners.map(run, batches):
                pass  # asks for the results, so that an error is raised here
        return z

    def _share(self, texts: int) -> int:
        """Returns the most texts of a batch: two batches for each thread, so that one with short texts takes another.

        int8 runs texts singly. It rounds activations with one scale for a whole batch, so that an embedding would
        depend on the texts beside it; and a single text needs no padding.
        """
        if self.spec.precision == "int8":
            return 1
        each, half = -(-texts // self.threads), -(-texts // (2 * self.threads))
        return max(1, min(MAX_BATCH_TEXTS, max(half, min(each, _WORTH_A_KERNEL))))

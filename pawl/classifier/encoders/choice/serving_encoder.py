"""The encoder that serves: a proven backend, and others that take over a batch on which it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import structlog

from pawl.classifier.encoders.spec import EncoderSpec
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.domain.errors import EncoderFailed, PawlError
from pawl.ports import Encoder, Floats

log = structlog.get_logger("backends")

_TOLD = 5
"""Failures of a backend that are logged; beyond them one in a hundred."""


class BackendEncoder(Encoder, Protocol):
    """An encoder that knows its folder's spec and tokenizer, as every backend does."""

    spec: EncoderSpec
    tokenizer: TextTokenizer


OpenBackend = Callable[[], BackendEncoder]
"""Opens and proves a backend; raises where it cannot serve."""


class ServingEncoder:
    """Implements the port `Encoder` with the first backend that gives finite numbers. Safe to call from threads.

    Args:
        library: Name of the backend that serves.
        encoder: That backend.
        others: Names and openers of those that take over a batch, in this order; each is opened when it is needed.
    """

    def __init__(self, library: str, encoder: BackendEncoder, others: Sequence[tuple[str, OpenBackend]]) -> None:
        self.library = library
        self.digest, self.dimension = encoder.digest, encoder.dimension
        self.spec, self.tokenizer = encoder.spec, encoder.tokenizer
        self._encoder = encoder
        self._others = list(others)
        self._opened: dict[str, BackendEncoder] = {}
        self._unusable: dict[str, str] = {}
        self._opening = threading.Lock()
        self.failures = 0
        """Batches that the backend that serves could not embed."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), float32, each layer's part of unit length, in the order of the texts.

        Raises `EncoderFailed` where no backend can embed them.
        """
        try:
            return _finite(self._encoder.encode(texts))
        except Exception as error:
            self.failures += 1
            if self.failures <= _TOLD or self.failures % 100 == 0:
                log.exception("backend_failed", library=self.library, texts=len(texts))
            problems = [f"{self.library}: {_first_line(error)}"]
        for name, open_other in self._others:
            try:
                return _finite(self._other(name, open_other).encode(texts))
            except Exception as error:  # noqa: BLE001 - the libraries raise kinds of their own
                problems.append(f"{name}: {_first_line(error)}")
        raise EncoderFailed(problem="; ".join(problems))

    def _other(self, name: str, open_other: OpenBackend) -> BackendEncoder:
        # One thread opens and the others wait: each would load the same encoder into memory.
        with self._opening:
            if name in self._unusable:
                raise EncoderFailed(problem=self._unusable[name])
            if name not in self._opened:
                try:
                    self._opened[name] = open_other()
                except (PawlError, ImportError) as error:
                    # Remembered: a refusal holds for the process's life. Other errors, as of memory, are tried again.
                    self._unusable[name] = _first_line(error)
                    raise
                log.warning("backend_stands_in", library=name, instead_of=self.library)
            return self._opened[name]


def _finite(z: Floats) -> Floats:
    if not np.isfinite(z).all():
        raise EncoderFailed(problem="its numbers are not finite")
    return z


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]

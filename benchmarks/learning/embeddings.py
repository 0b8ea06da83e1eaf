"""Embeddings, computed once: five seeds of every ablation embed the same texts."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from app.commands.console.terminal import progress_bar
from pawl.ports import Encoder, Floats

CACHE = Path("~/.cache/pawl-benchmarks")
_CHUNK = 128


class CachedEncoder:
    """An encoder that remembers, under its digest, what it has embedded; implements the port `Encoder`.

    Args:
        encoder: Embeds what is not known yet.
        folder: Where `<digest>.sqlite` is kept; programs that run at the same time may share it.
    """

    def __init__(self, encoder: Encoder, folder: Path) -> None:
        self.encoder = encoder
        self._lock = threading.Lock()
        self._cached = True
        folder.mkdir(parents=True, exist_ok=True)
        self._file = sqlite3.connect(folder / f"{encoder.digest}.sqlite", timeout=60.0, check_same_thread=False)
        self._file.execute("CREATE TABLE IF NOT EXISTS embeddings (text BLOB PRIMARY KEY, z BLOB NOT NULL)")
        rows = self._file.execute("SELECT text, z FROM embeddings")
        self._known: dict[bytes, Floats] = {bytes(key): np.frombuffer(z, dtype=np.float32) for key, z in rows}

    @property
    def digest(self) -> str:
        """The encoder's own: equal digests give equal embeddings."""
        return self.encoder.digest

    @property
    def dimension(self) -> int:
        """d, the length of z."""
        return self.encoder.dimension

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), in the order of the texts."""
        with self._lock:
            if not self._cached:
                return self.encoder.encode(texts)
            keys = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest() for text in texts]
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in self._known}
            if missing:
                z = self.encoder.encode(list(missing.values()))
                fresh = dict(zip(missing, z, strict=True))
                with self._file:
                    rows = [(key, row.tobytes()) for key, row in fresh.items()]
                    self._file.executemany("INSERT OR IGNORE INTO embeddings VALUES (?, ?)", rows)
                self._known |= fresh
            return np.stack([self._known[key] for key in keys]) if keys else np.empty((0, self.dimension), np.float32)

    @contextmanager
    def uncached(self) -> Iterator[None]:
        """Everything is embedded anew while the block runs."""
        self._cached = False
        try:
            yield
        finally:
            self._cached = True

    def prepare(self, texts: Iterable[str]) -> None:
        """Embeds texts ahead of their use, with a progress bar."""
        everything = sorted(set(texts), key=len)  # texts of one length make full batches
        chunks = [everything[start : start + _CHUNK] for start in range(0, len(everything), _CHUNK)]
        with progress_bar() as bar:
            for chunk in bar.track(chunks, description="embedding"):
                self.encode(chunk)

    def close(self) -> None:
        """Lets go of the file."""
        self._file.close()

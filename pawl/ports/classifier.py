"""Encoders, and the files that versions are made of. Sync: call them from a thread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from pawl.domain.manifest import MANIFEST_FILE, Manifest
from pawl.files import file_sha256

Floats = npt.NDArray[np.float32]


class Encoder(Protocol):
    """A frozen map from text to a vector. Plain sync; call it from a thread."""

    @property
    def digest(self) -> str:
        """Identifies weights, tokenizer and pooling: equal digests give equal embeddings."""

    @property
    def dimension(self) -> int:
        """d, the length of z."""

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), each layer's part of unit length, in the order of the texts."""


@dataclass(frozen=True, slots=True)
class VersionFolder:
    """A verified folder of one version."""

    number: int
    path: Path
    manifest: Manifest

    @property
    def manifest_digest(self) -> str:
        """Hex SHA-256 of `manifest.json`, as the ledger has it of a version."""
        return file_sha256(self.path / MANIFEST_FILE)


class ArtefactStore(Protocol):
    """Immutable version folders. Sync; call it from a thread.

    A folder is made of hard links to content-addressed blobs, so an encoder shared by many versions is stored once.
    """

    def publish(
        self, number: int, manifest: Manifest, files: Mapping[str, Path | bytes], *, exclusive: bool = False
    ) -> VersionFolder:
        """Writes version `number`: blobs first (temp file, fsync, rename), the manifest last.

        `files` maps the path inside the folder to bytes or to an existing file (linked or copied). The manifest's
        `files` table (path -> sha256) is filled in here. What lies there is replaced or, with `exclusive`, left as it
        is: `FileExistsError`.
        """

    def link(self, number: int, source: int, manifest: Manifest, *, exclusive: bool = False) -> VersionFolder:
        """Makes version `number` with the files of version `source` (roll-back); `exclusive` as in `publish`."""

    def open(self, number: int, *, skip: frozenset[str] = frozenset()) -> VersionFolder:
        """Verifies and opens a version; files whose sha256 is in `skip` (loaded and verified before) are not read.

        Raises `ArtefactCorrupt` for a missing folder or file, a wrong digest or a bad manifest.
        """

    def probe(self) -> None:
        """Writes, links, renames, reads back and removes a file as those of a version are.

        Raises `OSError` or `ArtefactCorrupt` where a version could not be written here.
        """

    def manifest(self, number: int) -> Manifest:
        """The manifest alone, verified by itself; no other file is read. Raises `ArtefactCorrupt`."""

    def path(self, number: int) -> Path:
        """The folder a version has or would have."""

    def remove(self, numbers: Sequence[int]) -> int:
        """Removes version folders, then the blobs nothing links to; returns the bytes freed."""

    def kept(self) -> list[int]:
        """Numbers of the folders that exist."""

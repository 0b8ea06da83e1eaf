"""What every backend has from the `encoder/` folder it opens."""

from __future__ import annotations

from pathlib import Path

from app.core.classifier.encoder_folder import SPEC_FILE, EncoderSpec, encoder_digest
from app.core.classifier.tokenization import TextTokenizer


class FolderEncoder:
    """The base of the backends, which add `encode`: the folder's spec, its tokenizer and its digest.

    Args:
        folder: The folder.
        digest: Its digest where it is known and verified already; else computed from the files.

    Raises:
        ArtefactCorrupt: A file is missing or odd.
    """

    def __init__(self, folder: Path, digest: str | None) -> None:
        self.folder = folder
        self.spec = EncoderSpec.from_file(folder / SPEC_FILE)
        self.tokenizer = TextTokenizer(folder, self.spec)
        self._digest = encoder_digest(folder) if digest is None else digest

    @property
    def digest(self) -> str:
        """Identifies the folder's files: equal digests give equal embeddings on one backend."""
        return self._digest

    @property
    def dimension(self) -> int:
        """d, the length of z."""
        return self.spec.dimension

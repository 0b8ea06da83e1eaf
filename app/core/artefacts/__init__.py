"""Version folders on a disk."""

from app.core.artefacts.folders import FolderArtefactStore
from app.core.artefacts.verification import manifest_digest, read_folder

__all__ = ["FolderArtefactStore", "manifest_digest", "read_folder"]

"""Version folders on a disk."""

from pawl.artefacts.folders import FolderArtefactStore
from pawl.artefacts.verification import manifest_digest, read_folder

__all__ = ["FolderArtefactStore", "manifest_digest", "read_folder"]

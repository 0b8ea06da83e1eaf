"""Version folders on a disk: written whole or not at all, verified when they are opened, healed from copies."""

from pawl.artefacts.folders import FolderArtefactStore
from pawl.artefacts.verification import read_folder

__all__ = ["FolderArtefactStore", "read_folder"]

"""Replaces damaged files of version folders by copies of the same contents.

The files of a version are hard links, so a damaged inode is damaged in every version that has the file. A copy is any
other inode with the digest that the manifest names: a blob, a file of another version, or one in a folder outside
(`spares`), such as the folder that an encoder was exported to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import structlog

from pawl.artefacts.verification import check_path, is_plain, read_manifest
from pawl.domain.errors import ArtefactCorrupt
from pawl.files import file_sha256

log = structlog.get_logger(__name__)


class Healing:
    """Finds what is damaged in a version's folder, and where else its contents are.

    Args:
        folder: The version's folder.
        versions: The folder of all versions.
        blob: Returns the path of the blob with a digest.
        spares: Folders outside that may hold copies.
    """

    def __init__(self, folder: Path, versions: Path, blob: Callable[[str], Path], spares: Sequence[Path]) -> None:
        self._folder = folder
        self._versions = versions
        self._blob = blob
        self._spares = spares
        self._bad: set[tuple[int, int]] = set()

    def mend(self, blob_of: Callable[[Path], Path], link: Callable[[Path, Path], None], tmp: Path) -> bool:
        """Replaces what is damaged, here and in all versions that share it.

        False where nothing is damaged, and at the first file of which there is no other copy.

        `blob_of` makes a sound blob with a file's contents and returns its path; `link` links a damaged file's place to
        it, by way of the folder `tmp`. Raises `OSError`.
        """
        damaged = self._damaged()
        for name, digest in damaged.items():
            source = self._copy_of(digest)
            if source is None:
                log.error("artefact_damaged", path=str(self._folder / name), problem="there is no other copy of it")
                return False
            blob = blob_of(source)
            # All of them now: a version that shared the damaged inode has the damage, too.
            places = self._others(digest, blob)
            for path in places:
                path.parent.mkdir(parents=True, exist_ok=True)
                # By a rename: whoever opens the version meanwhile finds the old file or the new one, never none.
                link(blob, tmp / "healed")
                (tmp / "healed").replace(path)
            log.warning("artefact_healed", path=str(self._folder / name), source=str(source), versions=len(places))
        return bool(damaged)

    def _damaged(self) -> dict[str, str]:
        """Returns name -> digest of the files that are missing or altered; empty where the manifest is damaged."""
        files = _named(self._folder)
        return {name: digest for name, digest in files.items() if not self._is_sound(self._folder / name, digest)}

    def _copy_of(self, digest: str) -> Path | None:
        """Returns a sound file with these contents; None where there is none."""
        places = chain([self._blob(digest)], self._holders(digest), self._spare_files())
        return next((path for path in places if self._is_sound(path, digest)), None)

    def _others(self, digest: str, blob: Path) -> list[Path]:
        """Returns the files with this digest, in any version, that are missing or another inode than the blob."""
        inode = blob.stat().st_ino
        return [path for path in self._holders(digest) if not path.exists() or path.stat().st_ino != inode]

    def _holders(self, digest: str) -> Iterator[Path]:
        for folder in sorted(self._versions.iterdir(), reverse=True):
            for name, named in _named(folder).items():
                if named == digest:
                    yield folder / name

    def _spare_files(self) -> Iterator[Path]:
        for spare in self._spares:
            yield from (path for path in spare.rglob("*") if path.is_file() and not path.is_symlink())

    def _is_sound(self, path: Path, digest: str) -> bool:
        """Whether a file has the digest. Each damaged inode is read once: hundreds of versions may share it."""
        try:
            status = path.lstat()
            inode = status.st_dev, status.st_ino
            if inode in self._bad or not is_plain(path, path.parent):
                return False
            if file_sha256(path) == digest:
                return True
        except OSError:
            return False
        if path.is_relative_to(self._versions) or path == self._blob(digest):
            self._bad.add(inode)  # a stored file has one right digest; a spare may be a sound copy of another file
        return False


def _named(folder: Path) -> dict[str, str]:
    """Returns name -> digest of a version's files; empty where its manifest is damaged or names a path outside."""
    try:
        files = dict(read_manifest(folder).files)
        for name in files:
            check_path(name, folder)
    except ArtefactCorrupt:
        return {}
    return files

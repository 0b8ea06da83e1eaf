"""Version folders on a disk.

    <root>/blobs/ab/<sha256>     contents, each once, read-only
    <root>/versions/00000012/    hard links to blobs, and manifest.json
    <root>/tmp/                  what is being written or removed; anything found there later was left by a crash
    <root>/.lock                 held by whoever writes or removes

A version is put together under `tmp`: its files are flushed to the disk (fsync), then its manifest, then its
directories. Then the folder is renamed to its place. A process that is killed, or a machine that stops, leaves the
version whole or absent.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pawl.artefacts.healing import Healing
from pawl.artefacts.verification import check_path, manifest_bytes, read_folder, read_manifest
from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.manifest import MANIFEST_FILE, Manifest
from pawl.files import file_sha256, make_folder, move_into_place, sync, write_new
from pawl.ports import VersionFolder

# Other volume, no right or no such call, and EMLINK: an inode has all the links it may have (65,000 on ext4).
_NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES}
_PROBE = "probe"
_PROBE_BYTES = 1 << 20  # about what a head of many labels takes
_READ_ONLY = 0o444  # a link shares its contents with every version, so nothing may write to it in place


class FolderArtefactStore:
    """Implements the port `ArtefactStore` on a folder, for any number of processes and threads of one machine.

    Writers and removers hold a lock on `<root>/.lock` (`flock`, which the kernel frees when a process dies). So no
    other process is about to link a blob that nothing links to, and such a blob may be removed at any age. Readers
    take no lock, because files are never changed, only unlinked.

    A stored file is not hashed again for every version that links to it: an encoder is 180 MB, and a head update takes
    milliseconds. This object remembers the inode, size and modification time of each stored file that it has hashed,
    and takes the file for sound while these stay. Files from elsewhere are hashed each time.

    Args:
        root: The folder; made when the first version is written.
        spares: Folders that may hold other copies of files, from which damaged ones are healed.
    """

    def __init__(self, root: Path, spares: Sequence[Path] = ()) -> None:
        self._root = root.resolve()
        self._spares = tuple(spares)
        self._blobs = self._root / "blobs"
        self._versions = self._root / "versions"
        self._tmp = self._root / "tmp"
        self._sound: dict[tuple[int, int], tuple[int, int, str]] = {}

    def manifest(self, number: int) -> Manifest:
        """See `ArtefactStore.manifest`."""
        return read_manifest(self.path(number))

    def path(self, number: int) -> Path:
        """Returns the folder that version `number` has, or would have."""
        return self._versions / f"{number:08d}"

    def publish(
        self, number: int, manifest: Manifest, files: Mapping[str, Path | bytes], *, exclusive: bool = False
    ) -> VersionFolder:
        """Writes version `number`, replacing what is there unless `exclusive`; see the port.

        Raises:
            ValueError: `number` is not the manifest's.
            ArtefactCorrupt: A path of `files` is odd, or a file changed while it was read.
            FileExistsError: There is a version `number`, and `exclusive` was asked for.
            OSError: The disk is full, or a file cannot be read; nothing of the version is visible then.
        """
        if manifest.version != number:
            raise ValueError(f"the manifest is of version {manifest.version}, not {number}")
        for name in files:
            check_path(name, self.path(number))
        with self._locked():
            self._check_free(number, exclusive=exclusive)
            return self._assemble(number, manifest, files)

    def link(self, number: int, source: int, manifest: Manifest, *, exclusive: bool = False) -> VersionFolder:
        """Makes version `number` with the files of version `source`, after verifying them; see the port.

        Raises:
            ValueError: `number` is not the manifest's.
            ArtefactCorrupt: Version `source` is missing or damaged.
            FileExistsError: There is a version `number`, and `exclusive` was asked for.
        """
        if manifest.version != number:
            raise ValueError(f"the manifest is of version {manifest.version}, not {number}")
        # Heals it where it is damaged. It reads all of it, so it comes before the lock that keeps others waiting.
        self.open(source)
        with self._locked():
            self._check_free(number, exclusive=exclusive)
            # Again, behind the lock: retention may have removed it since.
            folder = self._read(source)
            return self._assemble(number, manifest, {name: folder.path / name for name in folder.manifest.files})

    def open(self, number: int, *, skip: frozenset[str] = frozenset()) -> VersionFolder:
        """Verifies and opens a version; heals it from other copies where it is damaged. See the port."""
        try:
            return self._read(number, skip)
        except ArtefactCorrupt as damage:
            try:
                if not self._heal(number):
                    raise
            except OSError as error:  # a read-only folder, a full disk
                raise damage from error
            return self._read(number, skip)

    def _heal(self, number: int) -> bool:
        """Replaces the damaged files of a version, and of all that share them; false where there is no other copy."""
        if not self.path(number).is_dir():
            return False
        with self._locked():
            self._sound.clear()  # a file that was damaged without a change of its time is remembered as sound
            healing = Healing(self.path(number), self._versions, self._blob, self._spares)
            return healing.mend(lambda source: self._blob(self._put(source)), self._link, self._tmp)

    def _read(self, number: int, skip: frozenset[str] = frozenset()) -> VersionFolder:
        path = self.path(number)
        folder = read_folder(path, skip=skip)
        if folder.number != number:
            raise ArtefactCorrupt(path=path / MANIFEST_FILE, problem=f"it is of version {folder.number}, not {number}")
        # Hashed a moment ago, so that the next version that links to them does not hash them again.
        for name, digest in folder.manifest.files.items():
            if digest not in skip:
                self._remember(path / name, digest)
        return folder

    def probe(self) -> None:
        """Writes, links, renames, reads back and removes a file of its own; see the port."""
        # Random, so that there is no blob of it yet: it has to be written, as those of a version.
        content = os.urandom(_PROBE_BYTES)
        new, final = self._tmp / _PROBE, self._versions / _PROBE
        with self._locked():
            shutil.rmtree(final, ignore_errors=True)  # left by a probe that was killed
            blob = self._blob(self._put(content))
            try:
                new.mkdir()
                self._link(blob, new / _PROBE)
                sync(new)
                move_into_place(new, final)
                if (final / _PROBE).read_bytes() != content:
                    raise ArtefactCorrupt(path=final / _PROBE, problem="it does not read as it was written")
            finally:
                shutil.rmtree(final, ignore_errors=True)
                self._forget(blob)

    def remove(self, numbers: Sequence[int]) -> int:
        """Removes version folders, then the blobs no version links to; returns the bytes freed.

        Where the file system has no hard links, versions are copies and all blobs go, which only costs writing them
        again.
        """
        with self._locked():
            for number in numbers:
                if self.path(number).exists():
                    # Renamed first, so that a folder without some of its files is never found under its number.
                    self.path(number).replace(self._tmp / f"removed-{number:08d}")
            # The folders are gone for good before their blobs are: after a power cut no version lacks files.
            sync(self._versions)
            freed = self._clear_tmp()
            for blob in self._blobs.glob("??/*"):
                status = blob.stat()
                # The number of links is the number of versions that have it (ADR 0003).
                if status.st_nlink == 1:
                    self._forget(blob)
                    freed += status.st_size
        return freed

    def kept(self) -> list[int]:
        """Returns the numbers of the folders that exist, in rising order."""
        if not self._versions.is_dir():
            return []
        # `probe` is no version.
        return sorted(int(p.name) for p in self._versions.iterdir() if p.name.isdecimal() and p.is_dir())

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keeps other writers out, of this process and of others, and removes what a killed one left."""
        for folder in (self._root, self._blobs, self._versions, self._tmp):
            make_folder(folder)
        handle = os.open(self._root / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            # The lock is of this handle, not of the process: threads of one process keep each other out as well.
            fcntl.flock(handle, fcntl.LOCK_EX)
            # Whoever wrote there before is gone: nobody works under `tmp` without the lock.
            self._clear_tmp()
            yield
        finally:
            os.close(handle)

    def _clear_tmp(self) -> int:
        """Removes everything under `tmp` and returns the bytes freed. The caller holds the lock."""
        freed = 0
        for path in self._tmp.iterdir():
            entries = [path, *path.rglob("*")] if path.is_dir() else [path]
            # What has other links stays on the disk, with them.
            freed += sum(e.stat().st_size for e in entries if e.is_file() and e.stat().st_nlink == 1)
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        return freed

    def _assemble(self, number: int, manifest: Manifest, files: Mapping[str, Path | bytes]) -> VersionFolder:
        digests = {name: self._put(source) for name, source in files.items()}
        manifest = manifest.with_files(digests)
        new, final = self._tmp / f"new-{number:08d}", self.path(number)
        new.mkdir()
        directories = {new}
        for name, digest in digests.items():
            target = new / name
            target.parent.mkdir(parents=True, exist_ok=True)
            directories.update(p for p in target.parents if p.is_relative_to(new))
            self._link(self._blob(digest), target)
        # Last: a folder with a manifest has all that it names.
        write_new(new / MANIFEST_FILE, manifest_bytes(manifest), _READ_ONLY)
        for directory in directories:
            sync(directory)
        # A folder cannot be renamed onto one that has files.
        if final.exists():
            final.replace(self._tmp / f"removed-{number:08d}")
        move_into_place(new, final)
        self._clear_tmp()
        return VersionFolder(number, final, manifest)

    def _check_free(self, number: int, *, exclusive: bool) -> None:
        if exclusive and self.path(number).exists():
            raise FileExistsError(f"there is a version {number} already")

    def _blob(self, digest: str) -> Path:
        return self._blobs / digest[:2] / digest

    def _put(self, source: Path | bytes) -> str:
        """Returns the digest of some contents, after making sure that there is a sound blob of them."""
        digest = hashlib.sha256(source).hexdigest() if isinstance(source, bytes) else self._digest(source)
        blob = self._blob(digest)
        # A damaged blob is replaced, so no version passes the damage on.
        if blob.is_file() and self._digest(blob) == digest:
            return digest
        temporary = self._tmp / digest
        write_new(temporary, source, _READ_ONLY)
        # The source was read twice, for its digest and for its copy, and is not ours: it may have been written to
        # between.
        if isinstance(source, Path) and file_sha256(temporary) != digest:
            raise ArtefactCorrupt(path=source, problem="it changed while it was read")
        make_folder(blob.parent)
        move_into_place(temporary, blob)
        self._remember(blob, digest)
        return digest

    def _digest(self, path: Path) -> str:
        """Returns the SHA-256 of a file; remembers it for stored files, while their size and time stay."""
        path = path.resolve()
        if not path.is_relative_to(self._root):
            return file_sha256(path)
        status = path.stat()
        size, modified, digest = self._sound.get((status.st_dev, status.st_ino), (0, 0, ""))
        if not digest or (size, modified) != (status.st_size, status.st_mtime_ns):
            digest = file_sha256(path)
            self._sound[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns, digest)
        return digest

    def _remember(self, path: Path, digest: str) -> None:
        status = path.stat()
        self._sound[status.st_dev, status.st_ino] = (status.st_size, status.st_mtime_ns, digest)

    def _forget(self, blob: Path) -> None:
        status = blob.stat()
        blob.unlink()
        self._sound.pop((status.st_dev, status.st_ino), None)

    def _link(self, blob: Path, target: Path) -> None:
        """Makes a hard link, or a copy where that is not possible (no links in the file system, or all used up)."""
        try:
            os.link(blob, target)
        except OSError as error:
            if error.errno not in _NO_LINK:
                raise
            write_new(target, blob, _READ_ONLY)

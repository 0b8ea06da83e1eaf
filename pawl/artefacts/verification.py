"""Reads version folders. Everything in a folder is checked before anything of it is used."""

from __future__ import annotations

import hashlib
import json
import stat
from pathlib import Path, PurePosixPath

from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.manifest import MANIFEST_FILE, Manifest
from pawl.files import file_sha256
from pawl.json_values import Json
from pawl.ports import VersionFolder

_HEX = frozenset("0123456789abcdef")
_SELF = "sha256"


def manifest_bytes(manifest: Manifest) -> bytes:
    """Returns the contents of `manifest.json`: the manifest, and under `sha256` the digest of the rest.

    With that digest, an altered manifest is noticed without the ledger. Equal manifests give equal bytes.
    """
    value = manifest.to_json()
    return _canonical(value | {_SELF: hashlib.sha256(_canonical(value)).hexdigest()})


def check_path(name: str, folder: Path) -> None:
    """Raises `ArtefactCorrupt` for a path that could leave the folder, or that other systems read differently."""
    pure = PurePosixPath(name)
    # On Windows `\` separates and `:` follows a drive; NUL ends a path in C.
    odd = "\\" in name or "\0" in name or ":" in name
    if not name or odd or pure.is_absolute() or ".." in pure.parts or str(pure) != name or name == MANIFEST_FILE:
        raise ArtefactCorrupt(path=folder / MANIFEST_FILE, problem=f"it names a file {name!r}")


def read_folder(path: Path, *, skip: frozenset[str] = frozenset()) -> VersionFolder:
    """Verifies a version folder, wherever it lies, and returns it.

    The folder must hold the manifest and the files it names, each with its SHA-256, and nothing else. Files whose
    digest is in `skip` are only checked to be there.

    Raises:
        ArtefactCorrupt: Anything is missing, altered or odd; the message names it.
    """
    manifest = read_manifest(path)
    for name, digest in sorted(manifest.files.items()):
        check_path(name, path)
        file = path / name
        if not is_plain(file, path):
            raise ArtefactCorrupt(path=file, problem="it is missing or not a plain file")
        if digest in skip:
            continue
        try:
            actual = file_sha256(file)
        except OSError as error:
            raise ArtefactCorrupt(path=file, problem=f"it cannot be read: {error}") from error
        if actual != digest:
            raise ArtefactCorrupt(path=file, problem=f"its sha256 is {actual}, the manifest says {digest}")
    # What the manifest does not name could be read all the same, such as a tokenizer's optional file.
    extra = {p.relative_to(path).as_posix() for p in path.rglob("*") if not p.is_dir() or p.is_symlink()}
    extra -= {MANIFEST_FILE, *manifest.files}
    if extra:
        raise ArtefactCorrupt(path=path / min(extra), problem="the manifest does not name it")
    return VersionFolder(manifest.version, path, manifest)


def read_manifest(path: Path) -> Manifest:
    """Reads and verifies the manifest of a version folder; raises `ArtefactCorrupt`."""
    file = path / MANIFEST_FILE
    if not is_plain(file, path):
        raise ArtefactCorrupt(path=file, problem="it is missing")
    try:
        raw = file.read_bytes()
        value = json.loads(raw)
    # RecursionError: JSON nested deeper than Python's stack.
    except (OSError, ValueError, RecursionError) as error:
        raise ArtefactCorrupt(path=file, problem=f"it cannot be read: {error}") from error
    # Bytes that say the same in another way (a name twice, other white space) are not what the digest covers.
    if not isinstance(value, dict) or _canonical(value) != raw:
        raise ArtefactCorrupt(path=file, problem="it is not as Pawl writes it")
    stated = value.pop(_SELF, None)
    actual = hashlib.sha256(_canonical(value)).hexdigest()
    if stated != actual:
        raise ArtefactCorrupt(path=file, problem=f"it says its sha256 is {stated}, it is {actual}")
    manifest = Manifest.from_json(value, str(file))
    for name, digest in manifest.files.items():
        if len(digest) != 64 or not set(digest) <= _HEX:
            raise ArtefactCorrupt(path=file, problem=f"the sha256 of {name!r} is {digest!r}")
    return manifest


def _canonical(value: Json) -> bytes:
    return (json.dumps(value, indent=2, sort_keys=True) + "\n").encode()


def is_plain(file: Path, root: Path) -> bool:
    """Whether a file is a regular one that is reached through no symbolic link below `root`."""
    try:
        if any(parent.is_symlink() for parent in file.parents if parent.is_relative_to(root) and parent != root):
            return False
        return stat.S_ISREG(file.lstat().st_mode)
    except OSError:
        return False

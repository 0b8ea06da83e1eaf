"""Writes files and folders whole or not at all, and computes their digests.

An atomic write goes to a temporary name beside the target, is flushed to the disk (fsync), and is renamed. Then the
folder is flushed, because a new name is not on the disk before its folder is. A process that is killed, or a machine
that loses power, leaves the old contents or the new ones.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_CHUNK_BYTES = 1 << 20


def file_sha256(path: Path) -> str:
    """Returns the hex SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, content: bytes | str, *, durable: bool = True) -> None:
    """Replaces a file with `content` (a string as UTF-8); see `atomic_file`."""
    with atomic_file(path, durable=durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path, *, mode: int | None = None, durable: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for writing that takes the place of `path` when the block ends without an error.

    Args:
        path: The file to make or replace; its folder must exist.
        mode: Permissions of the file; those that the umask leaves by default.
        durable: Whether the file is flushed to the disk. What is of no use after a restart of the machine need not be.

    Raises:
        OSError: The file cannot be written; `path` is as it was before.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        # `x` and a random name: two writers of one file do not write into each other's temporary one.
        with temporary.open("xb") as file:
            if mode is not None:
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            if durable:
                os.fsync(file.fileno())
        move_into_place(temporary, path, durable=durable)
    # After the rename there is nothing under this name; after an error the half-written file goes.
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Makes a temporary folder that becomes `path` when the block ends without an error.

    The caller keeps other writers of `path` out: what lies under the temporary name is taken for the remains of a
    writer that was killed, and is removed.

    Raises:
        OSError: A file cannot be written, or there is something at `path`, which is left as it is.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        yield temporary
        # Contents first, then the rename: else a power cut could leave the folder in its place with empty files.
        for entry in [temporary, *temporary.rglob("*")]:
            if not entry.is_symlink():
                sync(entry)
        move_into_place(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_new(path: Path, source: Path | bytes, mode: int) -> None:
    """Makes a file with the contents of `source` and flushes it to the disk, under its final name from the start.

    For files of a folder that is renamed as a whole once all are written. Raises `FileExistsError`, `OSError`.
    """
    with path.open("xb") as file:
        if isinstance(source, bytes):
            file.write(source)
        else:
            with source.open("rb") as copied:
                shutil.copyfileobj(copied, file, _CHUNK_BYTES)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


def move_into_place(temporary: Path, path: Path, *, durable: bool = True) -> None:
    """Renames a finished file or folder to its place, in one step and (if `durable`) for good."""
    temporary.replace(path)
    if durable:
        sync(path.parent)


def make_folder(path: Path) -> None:
    """Makes a folder, unless it is there, whose name survives a power cut."""
    if not path.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        sync(path.parent)


def sync(path: Path) -> None:
    """Flushes a file's contents, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

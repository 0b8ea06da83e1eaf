"""Files and folders are written whole or not at all, whatever stops the writer."""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from pawl.files import atomic_file, atomic_folder, file_sha256, write_atomic
from tests.pawl.crashing import Machine

OLD, NEW = b"old contents", b"the new contents"


def replace_file(path: Path) -> None:
    write_atomic(path, NEW)


def make_folder(path: Path) -> None:
    with atomic_folder(path) as folder:
        (folder / "weights").write_bytes(NEW)
        (folder / "layers").mkdir()
        (folder / "layers" / "0").write_bytes(NEW)


def fail_half_way(path: Path) -> None:
    path.write_bytes(b"half")
    raise ValueError("odd")


@pytest.mark.parametrize(("write", "before"), [(replace_file, OLD), (replace_file, None), (make_folder, None)])
def test_a_stop_at_any_step_leaves_the_old_or_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], None], before: bytes | None
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what it is asked for is noted, which is quicker than the disk
    for stop_at, after in ((step // 2, bool(step % 2)) for step in itertools.count(2)):
        root = tmp_path / f"{stop_at}-{after}"
        root.mkdir()
        path = root / "target"
        if before is not None:
            path.write_bytes(before)
        machine = Machine(stop_at, after=after)
        ended = machine.finishes(lambda path=path: write(path))  # type: ignore[misc]  # default binds now
        machine.lose_power(root, {path.stat().st_ino} if before is not None and path.read_bytes() == before else set())
        if path.is_dir():
            assert {file.name: file.read_bytes() for file in path.rglob("*") if file.is_file()} == {
                "weights": NEW,
                "0": NEW,
            }
        else:
            assert (path.read_bytes() if path.exists() else None) in (before, NEW)
        if ended:
            assert path.exists()
            break
        write(path) if not path.is_dir() else None  # what a killed writer left is in nobody's way
    assert stop_at > 2  # steps were really watched
    assert [entry.name for entry in root.iterdir()] == ["target"], "no temporary name is left"


def test_an_error_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "settings.json"
    write_atomic(path, "old")
    with pytest.raises(TypeError), atomic_file(path) as file:
        file.writelines([b"half", None])  # type: ignore[list-item]  # fails after the first
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="odd"), atomic_folder(tmp_path / "encoder") as folder:
        fail_half_way(folder / "weights")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    make_folder(tmp_path / "encoder")
    with pytest.raises(OSError, match="not empty"), atomic_folder(tmp_path / "encoder") as folder:
        (folder / "weights").write_bytes(b"others")
    assert (tmp_path / "encoder" / "weights").read_bytes() == NEW


def test_permissions_and_digest(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "texts.csv", mode=0o600) as file:
        file.write(b"abc")
    assert stat.S_IMODE((tmp_path / "texts.csv").stat().st_mode) == 0o600
    assert file_sha256(tmp_path / "texts.csv").startswith("ba7816bf8f01cfea")

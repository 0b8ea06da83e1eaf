"""A process that dies, or a machine that stops, between any two steps leaves a version whole or absent."""

import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pawl.artefacts import FolderArtefactStore
from tests.pawl.artefacts.manifests import FILES, contents, manifest
from tests.pawl.crashing import Machine

NEW: dict[str, Path | bytes] = FILES | {"heads/a.safetensors": b"a new head", "heads/b.safetensors": b"another"}


def _publish_second(store: FolderArtefactStore) -> object:
    return store.publish(2, manifest(2), NEW)


def _publish_first_again(store: FolderArtefactStore) -> object:
    return store.publish(1, manifest(1), NEW)


def _link(store: FolderArtefactStore) -> object:
    return store.link(2, 1, manifest(2))


def _remove(store: FolderArtefactStore) -> object:
    return store.remove([1])


Allowed = dict[int, list[dict[str, Path | bytes] | None]]


@pytest.mark.parametrize(
    ("action", "allowed"),
    [
        (_publish_second, {1: [FILES], 2: [None, NEW]}),
        (_publish_first_again, {1: [FILES, None, NEW]}),
        (_link, {1: [FILES], 2: [None, FILES]}),
        (_remove, {1: [FILES, None]}),
    ],
)
def test_a_stop_at_any_step_leaves_versions_whole_or_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: Callable[[FolderArtefactStore], object], allowed: Allowed
) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)  # what it is asked for is noted, which is quicker than the disk
    for stop_at, after in ((step // 2, bool(step % 2)) for step in itertools.count(2)):
        root = tmp_path / f"{stop_at}-{after}"
        FolderArtefactStore(root).publish(1, manifest(1), FILES)
        FolderArtefactStore(root).publish(9, manifest(9), FILES)
        safe = {path.stat().st_ino for path in (root / "versions").rglob("*")}
        machine = Machine(stop_at, after=after)
        if machine.finishes(lambda root=root: action(FolderArtefactStore(root))):  # type: ignore[misc]  # default binds now
            break
        machine.lose_power(root, safe)
        _check(root, allowed)
    assert stop_at > 10  # steps were really watched


def _check(root: Path, allowed: Allowed) -> None:
    store = FolderArtefactStore(root)
    for number in store.kept():
        assert contents(store.open(number).path) in allowed.get(number, [FILES])
    assert 9 in store.kept()
    for number, states in allowed.items():
        assert number in store.kept() or None in states
    assert contents(store.publish(2, manifest(2), NEW).path) == NEW
    assert contents(FolderArtefactStore(root).open(2).path) == NEW
    store.remove([1, 2])
    assert contents(store.open(9).path) == FILES
    blobs = {path.read_bytes() for path in (root / "blobs").glob("??/*")}
    assert blobs == set(FILES.values())
    assert list((root / "tmp").iterdir()) == []


WRITER = """
import sys
from pathlib import Path
from pawl.artefacts import FolderArtefactStore
from tests.pawl.crashing import Machine
from tests.pawl.artefacts.manifests import FILES, manifest
store, number = FolderArtefactStore(Path(sys.argv[1])), int(sys.argv[2])
while True:
    number += 1
    store.publish(number, manifest(number), FILES | {"heads/a.safetensors": b"%d" % number})
    store.remove([number - 5])
    print(number, flush=True)
"""


def test_a_killed_writer_leaves_only_whole_versions(tmp_path: Path) -> None:
    last = 0
    for lines in (1, 7, 20, 3):
        command = [sys.executable, "-c", WRITER, str(tmp_path), str(last)]
        with subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            for _ in range(lines):
                last = int(writer.stdout.readline())
            writer.kill()
        store = FolderArtefactStore(tmp_path)
        assert last in store.kept()
        for number in store.kept():
            assert contents(store.open(number).path) == FILES | {"heads/a.safetensors": b"%d" % number}
        last = store.kept()[-1]

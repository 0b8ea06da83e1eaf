"""The store: what is published is what is opened; blobs are shared, checked and cleared."""

import errno
import hashlib
import json
import os
import threading
from pathlib import Path

import pytest

from pawl.artefacts import FolderArtefactStore, read_folder
from pawl.domain.errors import ArtefactCorrupt
from tests.pawl.artefacts.manifests import FILES, contents, manifest


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "artefacts"


@pytest.fixture
def store(root: Path) -> FolderArtefactStore:
    return FolderArtefactStore(root)


def _blobs(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in (root / "blobs").glob("??/*")}


def _flip(path: Path, place: int = -1) -> None:
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    with path.open("r+b") as file:
        file.write(content)


def test_what_is_published_is_what_is_opened(store: FolderArtefactStore, tmp_path: Path) -> None:
    source = tmp_path / "a file"
    source.write_bytes(b"from a path")
    files = FILES | {"encoder/tokenizer.json": source}
    published = store.publish(1, manifest(1, seed=3), files)
    opened = store.open(1)
    assert opened == published == FolderArtefactStore(tmp_path / "artefacts").open(1)
    assert contents(opened.path) == FILES | {"encoder/tokenizer.json": b"from a path"}
    assert opened.manifest.with_files({}) == manifest(1, seed=3)
    assert opened.manifest.files["empty"] == hashlib.sha256(b"").hexdigest()
    assert opened.manifest_digest == hashlib.sha256((opened.path / "manifest.json").read_bytes()).hexdigest()
    assert store.kept() == [1]
    source.write_bytes(b"changed later")
    assert store.open(1) == opened


def test_equal_contents_are_stored_once_and_read_only(store: FolderArtefactStore, root: Path) -> None:
    first = store.publish(1, manifest(1), FILES)
    second = store.publish(2, manifest(2), {n: first.path / n for n in FILES} | {"heads/a.safetensors": b"new"})
    encoder = "encoder/model.onnx"
    assert (first.path / encoder).samefile(second.path / encoder)
    assert (first.path / encoder).stat().st_mode & 0o222 == 0
    assert set(_blobs(root).values()) == {*FILES.values(), b"new"}
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in _blobs(root).items())


def test_publishing_a_number_again_replaces_it(store: FolderArtefactStore) -> None:
    store.publish(1, manifest(1), FILES)
    store.publish(1, manifest(1), {"other": b"x"})
    assert contents(store.open(1).path) == {"other": b"x"}


def test_a_number_that_is_not_the_manifests_is_refused(store: FolderArtefactStore) -> None:
    store.publish(1, manifest(1), FILES)
    with pytest.raises(ValueError, match="version 2, not 3"):
        store.publish(3, manifest(2), FILES)
    with pytest.raises(ValueError, match="version 2, not 3"):
        store.link(3, 1, manifest(2))
    store.path(1).rename(store.path(4))
    with pytest.raises(ArtefactCorrupt, match="of version 1, not 4"):
        store.open(4)


def test_link_makes_a_version_of_anothers_files(store: FolderArtefactStore) -> None:
    store.publish(1, manifest(1), FILES)
    folder = store.link(5, 1, manifest(5))
    assert contents(folder.path) == FILES
    assert (folder.number, folder.manifest.files) == (5, store.open(1).manifest.files)
    store.remove([1])
    assert contents(store.open(5).path) == FILES
    with pytest.raises(ArtefactCorrupt, match="missing"):
        store.link(6, 1, manifest(6))


def test_a_damaged_version_is_not_linked(store: FolderArtefactStore) -> None:
    folder = store.publish(1, manifest(1), FILES)
    _flip(folder.path / "encoder/model.onnx")
    with pytest.raises(ArtefactCorrupt, match=r"model\.onnx"):
        store.link(2, 1, manifest(2))
    assert store.kept() == [1]


@pytest.mark.parametrize("name", ["manifest.json", "encoder/model.onnx", "heads/a.safetensors"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove", "link", "folder"])
def test_an_altered_version_is_healed_from_a_copy_or_not_opened(
    store: FolderArtefactStore, tmp_path: Path, name: str, how: str
) -> None:
    path = store.publish(1, manifest(1), FILES).path / name
    content = path.read_bytes()
    if how == "flip":
        _flip(path, len(content) // 2)
    else:
        path.unlink()
    if how == "cut":
        path.write_bytes(content[:-1])
    if how == "link":
        (tmp_path / "elsewhere").write_bytes(content)
        path.symlink_to(tmp_path / "elsewhere")
    if how == "folder":
        path.mkdir()
    if how in {"cut", "remove", "link"} and name != "manifest.json":  # the blob has another copy of the contents
        assert contents(store.open(1).path) == FILES
        assert not path.is_symlink()
        return
    with pytest.raises(ArtefactCorrupt) as caught:
        store.open(1)
    assert str(path) in str(caught.value)


def test_every_byte_of_the_manifest_is_watched(store: FolderArtefactStore) -> None:
    path = store.publish(1, manifest(1), FILES).path / "manifest.json"
    raw = path.read_bytes()
    path.chmod(0o644)
    for place in range(len(raw)):
        path.write_bytes(raw[:place] + bytes([raw[place] ^ (1 << place % 8)]) + raw[place + 1 :])
        with pytest.raises(ArtefactCorrupt):
            store.open(1)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "a//b", "./a", "", "a/", "a\\b", "manifest.json", "a\0b"]
)
def test_paths_that_leave_the_folder_are_neither_written_nor_read(store: FolderArtefactStore, name: str) -> None:
    with pytest.raises(ArtefactCorrupt, match="names a file"):
        store.publish(1, manifest(1), {name: b"x"})
    folder = store.publish(1, manifest(1), FILES)
    value = folder.manifest.to_json() | {"files": {name: hashlib.sha256(b"x").hexdigest()}}
    digest = hashlib.sha256((json.dumps(value, indent=2, sort_keys=True) + "\n").encode()).hexdigest()
    (folder.path / "manifest.json").chmod(0o644)
    (folder.path / "manifest.json").write_text(json.dumps(value | {"sha256": digest}, indent=2, sort_keys=True) + "\n")
    with pytest.raises(ArtefactCorrupt, match="names a file"):
        store.open(1)


def test_a_link_to_a_folder_and_a_file_nobody_names_are_refused(store: FolderArtefactStore, tmp_path: Path) -> None:
    folder = store.publish(1, manifest(1), FILES)
    (folder.path / "heads").rename(tmp_path / "moved")
    (folder.path / "heads").symlink_to(tmp_path / "moved")
    with pytest.raises(ArtefactCorrupt, match="heads"):
        store.open(1)
    (folder.path / "heads").unlink()
    (tmp_path / "moved").rename(folder.path / "heads")
    (folder.path / "adapter_config.json").write_text("{}")
    with pytest.raises(ArtefactCorrupt, match=r"adapter_config\.json.*does not name it"):
        store.open(1)


def test_skipped_digests_are_not_read_but_must_be_there(store: FolderArtefactStore) -> None:
    folder = store.publish(1, manifest(1), FILES)
    skip = frozenset({folder.manifest.files["encoder/model.onnx"]})
    path = folder.path / "encoder/model.onnx"
    _flip(path)
    assert store.open(1, skip=skip).manifest == folder.manifest
    with pytest.raises(ArtefactCorrupt):
        store.open(1)
    path.unlink()
    with pytest.raises(ArtefactCorrupt, match="missing"):
        store.open(1, skip=skip)


def test_a_damaged_blob_is_written_anew(store: FolderArtefactStore, root: Path) -> None:
    folder = store.publish(1, manifest(1), FILES)
    _flip(root / "blobs" / (d := folder.manifest.files["encoder/model.onnx"])[:2] / d)
    for again in (store, FolderArtefactStore(root)):  # noticed by its time in this process, by its digest in another
        number = len(store.kept()) + 1
        assert contents(again.publish(number, manifest(number), FILES).path) == FILES
    assert all(hashlib.sha256(content).hexdigest() == name for name, content in _blobs(root).items())


def test_a_damage_that_keeps_the_time_is_found_by_the_next_process(store: FolderArtefactStore, root: Path) -> None:
    folder = store.publish(1, manifest(1), FILES)
    path = folder.path / "encoder/model.onnx"
    times = (path.stat().st_atime_ns, path.stat().st_mtime_ns)
    _flip(path)
    os.utime(path, ns=times)
    assert contents(FolderArtefactStore(root).publish(2, manifest(2), FILES).path) == FILES


def test_stored_files_are_hashed_once(store: FolderArtefactStore, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Path] = []

    def count(path: Path) -> str:
        hashed.append(path)
        return hashlib.sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr("pawl.artefacts.folders.file_sha256", count)
    first = store.publish(1, manifest(1), FILES)
    store.publish(2, manifest(2), {n: first.path / n for n in FILES} | {"heads/a.safetensors": b"new"})
    assert hashed == []
    again = FolderArtefactStore(first.path.parents[1])
    again.open(2)
    again.publish(3, manifest(3), {n: again.path(2) / n for n in FILES})
    assert hashed == []


def test_removing_frees_what_no_version_needs(store: FolderArtefactStore, root: Path) -> None:
    first = store.publish(1, manifest(1), FILES)
    manifest_bytes = (first.path / "manifest.json").stat().st_size
    store.publish(2, manifest(2), FILES | {"heads/a.safetensors": b"second"})
    assert store.remove([1]) == len(b"head") + manifest_bytes
    assert store.kept() == [2]
    assert set(_blobs(root).values()) == {FILES["encoder/model.onnx"], b"second", b""}
    assert contents(store.open(2).path) == FILES | {"heads/a.safetensors": b"second"}
    assert store.remove([1, 7]) == 0
    store.remove([2])
    assert store.kept() == []
    assert _blobs(root) == {}
    with pytest.raises(ArtefactCorrupt):
        store.open(2)


def test_an_open_file_of_a_removed_version_can_still_be_read(store: FolderArtefactStore) -> None:
    folder = store.publish(1, manifest(1), FILES)
    with (folder.path / "encoder/model.onnx").open("rb") as file:
        store.remove([1])
        assert file.read() == FILES["encoder/model.onnx"]


def test_an_empty_root_has_nothing(store: FolderArtefactStore) -> None:
    assert store.kept() == []
    with pytest.raises(ArtefactCorrupt, match="missing"):
        store.open(1)
    assert store.remove([1]) == 0


def test_without_hard_links_files_are_copied(
    store: FolderArtefactStore, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_link(*_: object) -> None:
        raise OSError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", no_link)
    first = store.publish(1, manifest(1), FILES)
    second = store.publish(2, manifest(2), {n: first.path / n for n in FILES})
    assert contents(store.open(1).path) == contents(store.open(2).path) == FILES
    assert not (first.path / "empty").samefile(second.path / "empty")
    store.remove([1])
    assert contents(FolderArtefactStore(root).publish(3, manifest(3), FILES).path) == FILES
    assert contents(store.open(2).path) == FILES


def test_no_blob_goes_that_another_is_about_to_link(root: Path) -> None:
    """Two stores on one folder, as worker and command line are: one publishes what the other removes, all the time."""
    stop, failures = threading.Event(), []

    def remove() -> None:
        store = FolderArtefactStore(root)
        while not stop.is_set():
            store.remove(store.kept())

    def publish(base: int) -> None:
        store = FolderArtefactStore(root)
        try:
            for number in range(base, base + 25):
                store.publish(number, manifest(number), FILES)
        except Exception as error:  # noqa: BLE001 - a thread's failure must reach the test
            failures.append(error)

    remover = threading.Thread(target=remove)
    publishers = [threading.Thread(target=publish, args=(base,)) for base in (100, 200)]
    for thread in (remover, *publishers):
        thread.start()
    for thread in publishers:
        thread.join()
    stop.set()
    remover.join()
    assert failures == []
    store = FolderArtefactStore(root)
    for number in store.kept():
        assert contents(store.open(number).path) == FILES
    store.publish(300, manifest(300), FILES)
    assert contents(store.open(300).path) == FILES


def test_a_folder_that_was_copied_away_is_read_as_well(store: FolderArtefactStore, tmp_path: Path) -> None:
    folder = store.publish(1, manifest(1), FILES)
    folder.path.rename(tmp_path / "anywhere")
    assert read_folder(tmp_path / "anywhere").manifest == folder.manifest

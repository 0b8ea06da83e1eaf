"""Backends of one precision agree; `auto` measures once for a machine and takes the faster; int8 has one backend."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from app.core.classifier import backends
from app.core.classifier.backends import Backends, measure
from app.core.classifier.export import export_encoder
from app.core.classifier.features import RandomFeatures
from app.core.classifier.onnx_encoder import OnnxEncoder
from app.core.classifier.openvino_encoder import OpenVinoEncoder
from app.core.classifier.torch_encoder import TorchEncoder
from app.core.domain.errors import ArtefactCorrupt, SettingInvalid
from app.core.ports import Floats
from app.core.settings import load_settings
from benchmarks.harness import ROOT
from benchmarks.learning.data import load_split
from tests.classifier.conftest import TEXTS
from tests.tiny_encoder import write_tiny_encoder
from worker.consolidation.ridge import answers, fit

_DATA = ROOT.parent / "shared" / "data"
_KINDS = {"onnxruntime": OnnxEncoder, "openvino": OpenVinoEncoder, "torch": TorchEncoder}


@pytest.fixture(scope="module")
def folder(minilm: tuple[Path, str]) -> Path:
    """all-MiniLM-L6-v2 in float32."""
    return minilm[0]


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_backend_gives_the_embeddings_of_onnx_runtime(folder: Path, name: backends.Backend) -> None:
    expected = OnnxEncoder(folder, threads=1, digest="d").encode(TEXTS)
    encoder = Backends(name, threads=1).open(folder, "d")
    assert type(encoder) is _KINDS[name]
    assert (encoder.digest, encoder.dimension) == ("d", 384)
    z = encoder.encode(TEXTS)
    np.testing.assert_allclose(z, expected, atol=0.01)  # bfloat16 where the CPU has it
    np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-3)
    np.testing.assert_allclose(encoder.encode(TEXTS[:1]), z[:1], atol=0.01)
    assert encoder.encode([]).shape == (0, 384)


@pytest.mark.skipif(not _DATA.is_dir(), reason=f"{_DATA} is not there: agreement is measured on real data")
def test_backends_agree_on_the_labels_of_banking77(folder: Path) -> None:
    """One head, fitted to what ONNX Runtime embeds, is asked the first 500 test texts as each backend embeds them."""
    split = load_split("banking77", _DATA)
    train, test = split.train[::20], [row.text for row in split.test[:500]]
    labels = sorted({row.label for row in train})
    onnx = OnnxEncoder(folder, digest="")
    features = RandomFeatures.create(384, 256, 0, onnx.dimension)
    phi = features.expand(onnx.encode([row.text for row in train]))
    head = fit(phi, [labels.index(row.label) for row in train], len(labels), 0.1)
    expected = np.array(answers(head, features.expand(onnx.encode(test))))
    for name in ("openvino", "torch"):
        found = np.array(answers(head, features.expand(Backends(name).open(folder, "").encode(test))))
        assert (found == expected).mean() >= 0.995, name


def test_auto_measures_once_and_takes_what_was_faster(folder: Path, tmp_path: Path) -> None:
    kept = tmp_path / "home" / "backends.json"
    chosen = Backends("auto", 1, kept).open(folder, "d")
    [(key, rates)] = json.loads(kept.read_text()).items()
    assert set(rates) == {"onnxruntime", "openvino"}
    assert type(chosen) is _KINDS[max(rates, key=lambda name: float(rates[name]))]
    for name in rates:  # what is kept decides, whatever this machine would say now
        kept.write_text(json.dumps({key: {other: 1.0 + (other == name) for other in rates}}))
        before = kept.read_bytes()
        assert type(Backends("auto", 1, kept).open(folder, "other weights")) is _KINDS[name]
        assert kept.read_bytes() == before, "nothing was measured again"


@pytest.mark.parametrize("odd", ["", "{", "[]", '{"a": []}', '{"a": {}}'])
def test_measurements_that_cannot_be_read_are_made_again(tiny: tuple[Path, str], tmp_path: Path, odd: str) -> None:
    kept = tmp_path / "backends.json"
    kept.write_text(odd)
    Backends("auto", 1, kept).open(*tiny)
    assert len(json.loads(kept.read_text())) == 1


def test_app_and_learner_that_start_together_choose_the_same(tiny: tuple[Path, str], tmp_path: Path) -> None:
    """The second waits for the first; measured at once they might choose differently, and the file be half of each."""
    code = (
        "import sys; from pathlib import Path; from app.core.classifier.backends import Backends;"
        "print(type(Backends('auto', 1, Path(sys.argv[1])).open(Path(sys.argv[2]), 'd')).__name__)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "backends.json"), str(tiny[0])]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    chosen = [process.communicate(timeout=120)[0].split()[-1] for process in started]
    assert chosen[0] == chosen[1]
    assert [process.returncode for process in started] == [0, 0]
    assert len(json.loads((tmp_path / "backends.json").read_text())) == 1


def test_int8_runs_on_onnx_runtime_whatever_was_asked_for(tmp_path: Path) -> None:
    export_encoder(
        str(write_tiny_encoder(tmp_path / "tiny")), tmp_path / "int8", max_tokens=32, pooled_layers=1, precision="int8"
    )
    for name in get_args(backends.Backend):
        assert type(Backends(name).open(tmp_path / "int8", "d")) is OnnxEncoder
    with pytest.raises(ArtefactCorrupt, match="OpenVINO cannot load it"):
        OpenVinoEncoder(tmp_path / "int8", digest="d")


def test_a_backend_that_is_not_installed_is_a_setting_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(SettingInvalid, match=r"PAWL_BACKEND.*pip install 'pawl-server\[openvino\]'"):
        Backends.of(load_settings(home=tmp_path, backend="openvino"))
    assert Backends.of(load_settings(home=tmp_path, backend="auto")).choice == "auto"


class _Clock:
    """A second passes for each embedded batch of one, eight for a batch of sixteen."""

    digest = "d"
    dimension = 1

    def __init__(self) -> None:
        self.time = 0.0

    def encode(self, texts: Sequence[str]) -> Floats:
        self.time += 1.0 if len(texts) == 1 else 8.0
        return np.zeros((len(texts), 1), np.float32)


def test_both_one_text_and_many_count() -> None:
    clock = _Clock()
    assert measure(clock, seconds=100.0, now=lambda: clock.time) == pytest.approx((1.0 * 2.0) ** 0.5, abs=0.1)

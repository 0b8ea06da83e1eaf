"""Backends of one precision agree; `auto` measures once for a machine and takes the faster; int8 has one backend."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from benchmarks.harness import ROOT
from benchmarks.learning.data import load_split
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.backends.openvino import OpenVinoEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice import opening as backends
from pawl.classifier.encoders.choice import record as backend_record
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.spec import encoder_digest
from pawl.classifier.features import RandomFeatures
from pawl.domain.errors import ArtefactCorrupt, SettingInvalid
from pawl.settings import load_settings
from tests.pawl.classifier.conftest import TEXTS
from tests.tiny_encoder import write_tiny_encoder
from worker.consolidation.ridge_evaluation import answers, fit

_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def folder(minilm: tuple[Path, str]) -> Path:
    """all-MiniLM-L6-v2 in float32."""
    return minilm[0]


@pytest.mark.parametrize("name", ["openvino", "torch"])
def test_a_backend_gives_the_embeddings_of_onnx_runtime(folder: Path, name: backends.Backend) -> None:
    expected = OnnxEncoder(folder, threads=1, digest="d").encode(TEXTS)
    encoder = Backends(name, threads=1).open(folder, "d")
    assert encoder.library == name
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
    digest = encoder_digest(folder)
    chosen = Backends("auto", 1, kept).open(folder, digest)
    record = json.loads(kept.read_text())
    [choice] = record["choices"].values()
    rates = choice["result"]["rates"]
    assert set(rates) == {"onnxruntime", "openvino"}
    assert chosen.library == choice["result"]["chosen"] == max(rates, key=lambda name: float(rates[name]))
    assert choice["result"]["low"] <= choice["result"]["ratio"] <= choice["result"]["high"]
    assert choice["machine"] == backend_record.machine(1), "a result names the machine it is from"
    for name in rates:  # what is kept decides, whatever this machine would say now
        choice["result"]["chosen"] = name
        kept.write_text(json.dumps(record))
        before = kept.read_bytes()
        assert Backends("auto", 1, kept).open(folder, digest).library == name
        assert kept.read_bytes() == before, "nothing was measured again"


@pytest.mark.parametrize("other", ["another processor", "another version", "other threads"])
def test_on_another_machine_all_is_proven_and_measured_anew(
    tiny: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str
) -> None:
    kept = tmp_path / "backends.json"
    Backends("auto", 1, kept).open(*tiny)
    if other == "another processor":
        monkeypatch.setattr(backend_record, "processor_field", lambda name: "another")
    elif other == "another version":
        monkeypatch.setattr(backend_record, "installed_version", lambda name: "99")
    Backends("auto", 2 if other == "other threads" else 1, kept).open(*tiny)
    record = json.loads(kept.read_text())
    assert len(record["choices"]) == 2
    assert len(record["proofs"]) == 4


@pytest.mark.parametrize("odd", ["", "{", "[]", '{"proofs": []}', '{"proofs": {}, "choices": {"a": {}}}'])
def test_a_record_that_cannot_be_read_is_made_again(tiny: tuple[Path, str], tmp_path: Path, odd: str) -> None:
    kept = tmp_path / "backends.json"
    kept.write_text(odd)
    Backends("auto", 1, kept).open(*tiny)
    assert len(json.loads(kept.read_text())["choices"]) == 1


def test_a_home_that_cannot_be_written_costs_measuring_again(tiny: tuple[Path, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    z = Backends("auto", 1, tmp_path / "file" / "backends.json").open(*tiny).encode(["my card"])
    assert z.shape == (1, 32)


def _kept_as(path: Path, **changes: object) -> None:
    """The one choice in the record, changed."""
    record = json.loads(path.read_text())
    for choice in record["choices"].values():
        choice["result"] |= {name: value for name, value in changes.items() if name in choice["result"]}
        choice["at"] = changes.get("at", choice["at"])
    path.write_text(json.dumps(record))


def _choice(path: Path) -> dict[str, object]:
    [choice] = json.loads(path.read_text())["choices"].values()
    return dict(choice["result"])


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes do nothing, whatever they do."""
    monkeypatch.setattr("pawl.classifier.encoders.choice.comparison._all_seconds", lambda: 0.0)
    monkeypatch.setattr("pawl.classifier.encoders.choice.comparison._WIDE", 1e9)


def _never() -> bool:
    return False


@pytest.mark.parametrize("why", ["it is doubtful", "it is old"])
def test_a_choice_is_measured_again_when_idle(tiny: tuple[Path, str], tmp_path: Path, quiet: None, why: str) -> None:
    kept = tmp_path / "backends.json"
    backends = Backends("auto", 1, kept)
    backends.open(*tiny)
    assert backends.review(*tiny, _never) is None, "it is neither doubtful nor old"
    _kept_as(kept, chosen="onnxruntime", ratio=9.0, rates={"onnxruntime": 9.0, "openvino": 1.0})
    serving = backends.open(*tiny)
    _kept_as(kept, **{"doubt": "it was busy"} if why == "it is doubtful" else {"at": "2020-01-01T00:00:00+00:00"})
    found = backends.review(*tiny, _never)
    assert found is not None
    assert found.doubt == ""
    assert _choice(kept)["ratio"] == found.ratio != 9.0
    assert serving.library == "onnxruntime", "who has it open goes on with it"
    assert backends.open(*tiny).library == found.chosen
    assert backends.review(*tiny, _never) is None


def test_on_a_busy_machine_nothing_is_measured_again(
    tiny: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tmp_path / "backends.json"
    backends = Backends("auto", 1, kept)
    backends.open(*tiny)
    _kept_as(kept, doubt="the machine was busy")
    seconds = iter(range(0, 10**9, 10**3))
    monkeypatch.setattr("pawl.classifier.encoders.choice.comparison._all_seconds", lambda: float(next(seconds)))
    before = kept.read_bytes()
    assert backends.review(*tiny, _never) is None
    monkeypatch.setattr("pawl.classifier.encoders.choice.opening.is_idle", lambda: True)  # and then it is not
    found = backends.review(*tiny, _never)
    assert found is not None
    assert found.rounds == 1, "it gives way"
    assert kept.read_bytes() == before, "what is as doubtful replaces nothing"


def test_app_and_learner_that_start_together_choose_the_same(tiny: tuple[Path, str], tmp_path: Path) -> None:
    """The second waits for the first; measured at once they might choose differently, and the file be half of each."""
    code = (
        "import sys; from pathlib import Path; from pawl.classifier.encoders.choice import Backends;"
        "print(Backends('auto', 1, Path(sys.argv[1])).open(Path(sys.argv[2]), 'd').library)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "backends.json"), str(tiny[0])]
    started = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    chosen = [process.communicate(timeout=120)[0].split()[-1] for process in started]
    assert chosen[0] == chosen[1]
    assert [process.returncode for process in started] == [0, 0]
    assert len(json.loads((tmp_path / "backends.json").read_text())["choices"]) == 1


def test_int8_runs_on_onnx_runtime_whatever_was_asked_for(tmp_path: Path) -> None:
    export_encoder(
        str(write_tiny_encoder(tmp_path / "tiny")), tmp_path / "int8", max_tokens=32, pooled_layers=1, precision="int8"
    )
    for name in get_args(backends.Backend):
        assert Backends(name).open(tmp_path / "int8", "d").library == "onnxruntime"
    with pytest.raises(ArtefactCorrupt, match="OpenVINO cannot load it"):
        OpenVinoEncoder(tmp_path / "int8", digest="d")


def test_a_backend_that_is_not_installed_is_a_setting_that_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    with pytest.raises(SettingInvalid, match=r"PAWL_BACKEND.*pip install 'openvino>="):
        Backends.of(load_settings(home=tmp_path, backend="openvino"))
    assert Backends.of(load_settings(home=tmp_path, backend="auto")).choice == "auto"

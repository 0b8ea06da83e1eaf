"""No encoder: a folder like every other, so that digests, versions and roll-backs need no second way."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.home_encoder import export_into_home, features_for
from pawl.classifier.encoders.no_encoder import NoEncoder
from pawl.classifier.encoders.source import find_encoder
from pawl.classifier.encoders.spec import NO_ENCODER_DIGEST, NO_ENCODER_SPEC, EncoderSpec, encoder_digest
from pawl.classifier.encoders.tokenization import encode_with_cuts
from pawl.classifier.features import RandomFeatures
from pawl.domain.errors import ArtefactCorrupt, EncoderRejected
from pawl.settings import Settings


def test_its_folder_has_one_file_and_one_digest(tmp_path: Path) -> None:
    folder, origin = export_into_home(Settings(encoder="none", random_features=64).encoder_choice, tmp_path)
    assert [path.name for path in folder.iterdir()] == ["encoder.json"]
    assert EncoderSpec.from_file(folder / "encoder.json") == NO_ENCODER_SPEC
    assert encoder_digest(folder) == export_encoder("none", tmp_path / "b", max_tokens=64) == NO_ENCODER_DIGEST
    assert origin.weights_sha256 is None
    assert origin.source_digest == find_encoder("none", None).digest()
    features = features_for(folder, origin.choice)
    assert (features.dimension, features.width) == (0, 1)
    path = tmp_path / "features.safetensors"
    path.write_bytes(features.to_bytes())
    assert RandomFeatures.from_file(path, 0).digest == features.digest


def test_it_is_opened_like_every_other_and_gives_no_numbers(tmp_path: Path) -> None:
    digest = export_encoder("none", tmp_path / "encoder", max_tokens=64)
    backends = Backends("auto", record=tmp_path / "backends.json")
    encoder = backends.open(tmp_path / "encoder", digest)
    assert isinstance(encoder, NoEncoder)
    z, cuts = encode_with_cuts(encoder, ["a", "b" * 100_000])
    assert z.shape == (2, 0)
    assert z.dtype == "float32"
    assert cuts == {}
    assert backends.known(tmp_path / "encoder", digest) == ({}, None)
    assert backends.review(tmp_path / "encoder", digest, lambda: False) is None
    assert not (tmp_path / "backends.json").exists()


def test_a_digest_of_weights_contradicts_it() -> None:
    with pytest.raises(EncoderRejected, match="no encoder has no weights"):
        find_encoder("none", "0" * 64)


@pytest.mark.parametrize("altered", [{"dimension": 8}, {"layers": [0]}, {"pooling": "mean"}])
def test_half_an_encoder_is_none(tmp_path: Path, altered: dict[str, object]) -> None:
    path = tmp_path / "encoder.json"
    path.write_text(json.dumps(json.loads(NO_ENCODER_SPEC.to_json()) | altered))
    with pytest.raises(ArtefactCorrupt):
        EncoderSpec.from_file(path)


def test_opening_it_imports_no_library_that_runs_encoders(tmp_path: Path) -> None:
    export_encoder("none", tmp_path / "encoder", max_tokens=64)
    script = (
        "import sys, pathlib, app.main\n"
        "from pawl.classifier.encoders.choice import Backends\n"
        f"Backends().open(pathlib.Path({str(tmp_path / 'encoder')!r}), 'x').encode(['a'])\n"
        "print(sorted({'torch', 'onnxruntime', 'openvino', 'tokenizers', 'transformers', 'scipy'} & {*sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout == "[]\n"

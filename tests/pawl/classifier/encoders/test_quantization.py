"""int8 weights: smaller, close to float32, exact about company, and with a head of their own no worse."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from benchmarks.harness import ROOT
from benchmarks.learning.data import load_split
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.quantization import quantize
from pawl.classifier.encoders.spec import ONNX_FILE, SPEC_FILE, EncoderSpec
from pawl.classifier.features import RandomFeatures
from pawl.domain.errors import EncoderRejected
from tests.pawl.classifier.conftest import TEXTS
from worker.consolidation.ridge_evaluation import answers, fit

_DATA = ROOT.parent / "shared" / "data"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """all-MiniLM-L6-v2, three layers pooled, in float32 and in int8."""
    root = tmp_path_factory.mktemp("precisions")
    export_encoder("small", root / "float32", max_tokens=256, pooled_layers=3)
    export_encoder("small", root / "int8", max_tokens=256, pooled_layers=3, precision="int8")
    return root / "float32", root / "int8"


@pytest.fixture(scope="module")
def encoders(folders: tuple[Path, Path]) -> tuple[OnnxEncoder, OnnxEncoder]:
    return OnnxEncoder(folders[0], threads=2, digest="float32"), OnnxEncoder(folders[1], threads=2, digest="int8")


def test_int8_is_a_quarter_of_the_size_and_says_what_it_is(folders: tuple[Path, Path]) -> None:
    large, small = ((folder / ONNX_FILE).stat().st_size for folder in folders)
    assert small < 0.26 * large
    assert [EncoderSpec.from_file(folder / SPEC_FILE).precision for folder in folders] == ["float32", "int8"]
    assert "precision" not in (folders[0] / SPEC_FILE).read_text(), "digests of float32 encoders stay what they were"
    assert [path.name for path in folders[1].iterdir() if path.suffix not in {".json", ".onnx", ".safetensors"}] == []


def test_int8_is_close_to_float32_and_trains_as_float32(
    encoders: tuple[OnnxEncoder, OnnxEncoder], folders: tuple[Path, Path]
) -> None:
    exact, rounded = (encoder.encode(TEXTS) for encoder in encoders)
    cosines = (exact * rounded).sum(axis=1) / np.linalg.norm(exact, axis=1) / np.linalg.norm(rounded, axis=1)
    assert cosines.min() > 0.994, "0.993 without a scale for each token"
    assert cosines.max() < 0.99999, "it was quantised"
    np.testing.assert_allclose(np.linalg.norm(rounded.reshape(len(TEXTS), 3, -1), axis=2), 1.0, atol=1e-5)
    np.testing.assert_allclose(TorchEncoder(folders[1]).encode(TEXTS), exact, atol=1e-4)


def test_an_int8_embedding_is_the_same_in_any_company(encoders: tuple[OnnxEncoder, OnnxEncoder]) -> None:
    _, encoder = encoders
    alone = np.vstack([encoder.encode([text]) for text in TEXTS])
    assert np.array_equal(encoder.encode(TEXTS), alone)
    assert np.array_equal(encoder.encode(TEXTS[::-1] * 3), np.vstack([alone[::-1]] * 3))
    assert encoder.encode([]).shape == (0, encoder.dimension)


def test_what_cannot_be_quantised_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / ONNX_FILE
    path.write_bytes(b"no model")
    with pytest.raises(EncoderRejected, match="cannot be quantised to int8"):
        quantize(path, heads=2, hidden=32)
    assert [file.name for file in tmp_path.iterdir()] == [ONNX_FILE]


@pytest.mark.skipif(not _DATA.is_dir(), reason=f"{_DATA} is not there: accuracy is compared on real data")
@pytest.mark.parametrize("name", ["banking77", "clinc150", "financial_phrasebank"])
def test_int8_with_its_own_head_loses_no_more_than_chance_and_three_tenths(
    encoders: tuple[OnnxEncoder, OnnxEncoder], name: str
) -> None:
    """On a part of each data set, by a small head with one lambda: embedding all of them takes minutes."""
    split, rng = load_split(name, _DATA), random.Random(0)
    train, test = rng.sample(split.train, 800), rng.sample(split.test, 600)
    labels = sorted({row.label for row in train})
    truth = [row.label for row in test]
    right = []
    for encoder in encoders:
        features = RandomFeatures.create(encoder.spec.hidden, 128, 0, encoder.dimension)
        phi, asked = (features.expand(encoder.encode([row.text for row in rows])) for rows in (train, test))
        head = fit(phi, [labels.index(row.label) for row in train], len(labels), 0.3)
        right.append(np.array([labels[k] for k in answers(head, asked)]) == np.array(truth))
    exact, rounded = right
    gained, lost = int((rounded & ~exact).sum()), int((exact & ~rounded).sum())
    assert lost - gained <= 0.003 * len(test) + 2 * (gained + lost) ** 0.5, "two standard deviations of a paired change"
    assert exact.mean() > 0.6

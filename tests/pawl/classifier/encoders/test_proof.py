"""A backend's numbers are proven before it serves; where it fails later, another takes over."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from pawl.classifier.encoders.backends import openvino as openvino_encoder
from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice import opening as backends
from pawl.classifier.encoders.choice.proof import ReferenceEmbeddings, lengths, probe_texts, prove
from pawl.classifier.encoders.choice.serving_encoder import ServingEncoder
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.spec import ONNX_FILE, REFERENCE_FILE, SPEC_FILE, EncoderSpec, encoder_digest
from pawl.classifier.encoders.tokenization import TextTokenizer, TokenBatch
from pawl.domain.errors import ArtefactCorrupt, EncoderFailed, EncoderRejected
from pawl.ports import Floats
from tests.pawl.classifier.architectures import write_encoder_of
from tests.pawl.classifier.unusable import UNUSABLE

_TEXTS = ["my card has not arrived", "refund " * 60, "why"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT with 45 positions."""
    root = tmp_path_factory.mktemp("bert")
    export_encoder(str(write_encoder_of("bert", root / "source")), root / "encoder", max_tokens=256, pooled_layers=2)
    return root / "encoder"


def test_probes_have_every_length_from_the_shortest_to_the_longest(folder: Path) -> None:
    tokenizer = TextTokenizer(folder, EncoderSpec.from_file(folder / SPEC_FILE))
    found = {len(ids) for ids in tokenizer.tokenize(probe_texts(tokenizer, 45))}
    assert found == set(range(2, 46)), "[CLS] and [SEP] are always there"
    assert lengths(45) == list(range(1, 46))
    assert {1, 2, 15, 16, 31, 32, 33, 127, 128, 129, 255, 256} <= set(lengths(256))
    assert len(lengths(8192)) < 60


def _pad_past_the_end(batch: TokenBatch, spec: EncoderSpec) -> object:
    """What the OpenVINO backend once did."""
    rows, width = batch.input_ids.shape
    shape = (rows, -(-width // 8) * 8)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    ids[:, :width], mask[:, :width] = batch.input_ids, batch.attention_mask
    return ids, mask


def test_a_backends_numbers_are_proven_before_it_serves(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(openvino_encoder, "_padded", _pad_past_the_end)
    expected = OnnxEncoder(folder, digest="d").encode(_TEXTS)
    choices: tuple[backends.Backend, ...] = ("auto", "openvino")
    for choice in choices:
        chosen = Backends(choice, 1, tmp_path / "backends.json")
        encoder = chosen.open(folder, "d")
        assert encoder.library == "onnxruntime"
        np.testing.assert_allclose(encoder.encode(_TEXTS), expected, atol=1e-5)
        proofs, _ = chosen.known(folder, "d")
        assert "its embedding is not that of transformers" in proofs["openvino"].result.problem
        assert proofs["onnxruntime"].result.problem == ""
        assert proofs["onnxruntime"].result.cosine > 0.99999


class _Wrong:
    """A backend that is right but for one thing."""

    dimension = 64
    digest = "d"

    def __init__(self, right: OnnxEncoder, spoil: Callable[[Floats, Sequence[str]], Floats]) -> None:
        self.spec, self.tokenizer = right.spec, right.tokenizer
        self._right, self._spoil = right, spoil

    def encode(self, texts: Sequence[str]) -> Floats:
        return self._spoil(self._right.encode(texts), texts)


def _first_only(z: Floats, texts: Sequence[str]) -> Floats:
    return z if len(texts) == 1 else np.repeat(z[:1], len(z), axis=0)


def _nan(z: Floats, texts: Sequence[str]) -> Floats:
    return z * (np.nan if len(texts) > 5 else 1.0)


def _turned(z: Floats, texts: Sequence[str]) -> Floats:
    return z[::-1]


def _tilted(z: Floats, texts: Sequence[str]) -> Floats:
    return z + np.float32(0.02)


def _one_layer(z: Floats, texts: Sequence[str]) -> Floats:
    return z[:, :32]


def _fails(z: Floats, texts: Sequence[str]) -> Floats:
    if max(map(len, texts)) > 100:
        raise RuntimeError("no kernel for this shape")
    return z


@pytest.mark.parametrize("spoil", [_first_only, _nan, _turned, _tilted, _one_layer, _fails])
def test_what_is_wrong_is_found(folder: Path, spoil: Callable[[Floats, Sequence[str]], Floats]) -> None:
    right, reference = OnnxEncoder(folder, digest="d"), ReferenceEmbeddings.read(folder)
    assert prove(right, reference, right.spec).problem == ""
    problem = prove(_Wrong(right, spoil), reference, right.spec).problem
    assert "no kernel for this shape" in problem if spoil is _fails else "is not that of transformers" in problem


def test_short_texts_after_long_ones_are_asked_for_again(folder: Path) -> None:
    """A backend may be right until it has seen a long text."""
    right = OnnxEncoder(folder, digest="d")
    seen: list[str] = []

    def spoil(z: Floats, texts: Sequence[str]) -> Floats:
        seen.extend(texts)
        return z if len(seen) <= 3 * len(ReferenceEmbeddings.read(folder).texts) // 2 or len(texts) > 1 else z[:, ::-1]

    assert "after longer ones" in prove(_Wrong(right, spoil), ReferenceEmbeddings.read(folder), right.spec).problem


def test_a_batch_on_which_a_backend_fails_is_taken_by_another(folder: Path) -> None:
    right = OnnxEncoder(folder, digest="d")
    opened: list[str] = []

    def stand_in() -> OnnxEncoder:
        opened.append("onnxruntime")
        return right

    for spoil in (_fails, _nan):
        opened.clear()
        encoder = ServingEncoder("openvino", _Wrong(right, spoil), [("onnxruntime", stand_in)])
        assert np.array_equal(encoder.encode(["why"]), right.encode(["why"]))
        assert (encoder.failures, opened) == (0, []), "it is opened when it is needed"
        for _ in range(2):
            assert np.array_equal(encoder.encode(_TEXTS * 2), right.encode(_TEXTS * 2))
        assert (encoder.failures, opened) == (2, ["onnxruntime"])


def test_where_none_can_it_is_no_damage(folder: Path) -> None:
    right = OnnxEncoder(folder, digest="d")

    def refused() -> OnnxEncoder:
        raise EncoderRejected(path=folder, problem="no numbers")

    encoder = ServingEncoder("openvino", _Wrong(right, _fails), [("torch", refused)])
    for _ in range(2):
        with pytest.raises(EncoderFailed, match=r"openvino: no kernel for this shape; torch: .*no numbers"):
            encoder.encode(_TEXTS)


def test_what_cannot_be_exported_is_served_by_torch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("unsupported operator")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    source = str(write_encoder_of("bert", tmp_path / "source"))
    digest = export_encoder(source, tmp_path / "encoder", max_tokens=64)
    assert not (tmp_path / "encoder" / ONNX_FILE).exists()
    chosen = Backends("auto", 1, tmp_path / "backends.json")
    assert chosen.open(tmp_path / "encoder", digest).library == "torch"
    assert "unsupported operator" in chosen.known(tmp_path / "encoder", digest)[0]["openvino"].result.problem
    with pytest.raises(EncoderRejected, match="unsupported operator"):
        export_encoder(source, tmp_path / "int8", max_tokens=64, precision="int8")


def test_int8_beyond_its_bound_is_refused_with_what_to_do(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "encoder")
    spec = json.loads((tmp_path / "encoder" / SPEC_FILE).read_text())
    (tmp_path / "encoder" / SPEC_FILE).write_text(json.dumps(spec | {"precision": "int8"}))
    reference = ReferenceEmbeddings.read(folder)
    ReferenceEmbeddings(reference.texts, np.roll(reference.embeddings, 1, axis=0)).write(tmp_path / "encoder")
    with pytest.raises(EncoderRejected, match="PAWL_COMPRESSION=none"):
        Backends("auto", 1).open(tmp_path / "encoder", "other numbers")


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "])
def test_a_reference_that_is_missing_or_odd_is_damage(folder: Path, tmp_path: Path, content: bytes | None) -> None:
    copy = shutil.copytree(folder, tmp_path / "encoder")
    (copy / REFERENCE_FILE).unlink()
    if content is not None:
        (copy / REFERENCE_FILE).write_bytes(content)
    assert encoder_digest(copy) == encoder_digest(folder), "it says nothing about the encoder that is new"
    with pytest.raises(ArtefactCorrupt, match="reference"):
        Backends("auto", 1).open(copy, "d")


def test_a_refusal_is_tried_again_at_the_next_start(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been a lack of memory; what was right once stays so."""
    kept = Backends("openvino", 1, tmp_path / "backends.json")
    with monkeypatch.context() as patched:
        patched.setattr(openvino_encoder, "_padded", _pad_past_the_end)
        assert kept.open(folder, "d").library == "onnxruntime"
    assert kept.open(folder, "d").library == "openvino"
    monkeypatch.setattr(backends, "prove", None)
    assert kept.open(folder, "d").library == "openvino", "proven once, it is not asked again"


@pytest.mark.parametrize("kind", UNUSABLE)
def test_an_encoder_that_cannot_be_used_is_refused_when_it_is_exported(tmp_path: Path, kind: str) -> None:
    write, problem = UNUSABLE[kind]
    write(tmp_path / "source")
    with pytest.raises(EncoderRejected, match=problem):
        export_encoder(str(tmp_path / "source"), tmp_path / "encoder", max_tokens=64)

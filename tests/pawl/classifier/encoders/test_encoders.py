"""Both backends on the same folders: they agree with each other, with plain transformers code, and with themselves."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoModel, AutoTokenizer

from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.export import export_encoder
from pawl.classifier.encoders.source import find_encoder
from pawl.classifier.encoders.spec import EncoderSpec, encoder_digest
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats
from tests.pawl.classifier.conftest import TEXTS
from tests.tiny_encoder import WORDS, exported_tiny_encoder, write_tiny_encoder


@pytest.fixture(scope="module")
def onnx(minilm: tuple[Path, str]) -> OnnxEncoder:
    return OnnxEncoder(minilm[0], threads=2, digest=minilm[1])


@pytest.fixture(scope="module")
def tiny_onnx(tiny: tuple[Path, str]) -> OnnxEncoder:
    return OnnxEncoder(tiny[0], threads=1, digest=tiny[1])


def _reference(texts: list[str]) -> Floats:
    """all-MiniLM-L6-v2 as its model card says: transformers, mean over the mask, unit length; one text at a time."""
    folder = find_encoder("small", None).folder
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    rows = []
    for text in texts:
        tokens = tokenizer(text, truncation=True, max_length=256, return_tensors="pt")
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state
        rows.append(torch.nn.functional.normalize(hidden.mean(1), dim=1).numpy())
    return np.vstack(rows)


def test_minilm_agrees_with_torch_and_with_plain_transformers_code(
    onnx: OnnxEncoder, minilm: tuple[Path, str], tmp_path: Path
) -> None:
    served, trained, reference = onnx.encode(TEXTS), TorchEncoder(minilm[0]).encode(TEXTS), _reference(TEXTS)
    assert np.abs(served - reference).max() < 1e-4
    assert np.abs(trained - reference).max() < 1e-4
    assert np.abs(served - trained).max() < 1e-4
    weights = np.random.default_rng(0).standard_normal((384, 77))
    assert np.array_equal((served @ weights).argmax(1), (trained @ weights).argmax(1))
    assert np.array_equal((served @ weights).argmax(1), (reference @ weights).argmax(1))


def test_embeddings_are_float32_of_unit_length(onnx: OnnxEncoder, tiny_onnx: OnnxEncoder) -> None:
    for encoder in (onnx, tiny_onnx):
        z = encoder.encode(TEXTS)
        assert z.shape == (len(TEXTS), encoder.dimension)
        assert z.dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(z, axis=1), 1.0, atol=1e-5)
        assert encoder.encode([]).shape == (0, encoder.dimension)


def test_an_embedding_does_not_depend_on_its_company(onnx: OnnxEncoder) -> None:
    alone = np.vstack([onnx.encode([text]) for text in TEXTS])
    together = onnx.encode(TEXTS)
    reverse = onnx.encode(TEXTS[::-1])[::-1]
    assert np.abs(alone - together).max() < 1e-5
    assert np.abs(alone - reverse).max() < 1e-5
    weights = np.random.default_rng(0).standard_normal((384, 77))
    assert np.array_equal((alone @ weights).argmax(1), (together @ weights).argmax(1))


@settings(max_examples=40)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=200) | st.sampled_from(WORDS), max_size=40))
def test_any_texts_come_back_in_their_order(texts: list[str]) -> None:
    z = _tiny().encode(texts)
    alone = np.vstack([np.empty((0, 32), np.float32), *(_tiny().encode([text]) for text in texts)])
    assert np.isfinite(z).all()
    assert np.abs(z - alone).max(initial=0) < 1e-5


def _tiny() -> OnnxEncoder:
    if not _KEPT:
        folder, digest = exported_tiny_encoder()
        _KEPT.append(OnnxEncoder(folder, threads=1, digest=digest))
    return _KEPT[0]


_KEPT: list[OnnxEncoder] = []


def test_torch_and_onnx_agree_on_the_tiny_encoder(tiny: tuple[Path, str], tiny_onnx: OnnxEncoder) -> None:
    torch_encoder = TorchEncoder(tiny[0])
    assert torch_encoder.digest == tiny_onnx.digest == encoder_digest(tiny[0])
    assert torch_encoder.dimension == tiny_onnx.dimension == 32
    texts = [*TEXTS, *WORDS[:50]]
    assert np.abs(torch_encoder.encode(texts) - tiny_onnx.encode(texts)).max() < 1e-5


@pytest.mark.parametrize(("pooled", "layers"), [(1, (0,)), (2, (0, 1)), (9, (0, 1))])
def test_z_is_the_pooled_states_of_the_layers_from_the_last_down(
    tmp_path: Path, pooled: int, layers: tuple[int, ...]
) -> None:
    folder = tmp_path / "encoder"
    source = write_tiny_encoder(tmp_path / "source")
    digest = export_encoder(str(source), folder, max_tokens=64, pooled_layers=pooled)
    torch_encoder, onnx = TorchEncoder(folder), OnnxEncoder(folder, threads=1, digest=digest)
    assert torch_encoder.spec.layers == onnx.spec.layers == layers
    z = onnx.encode(TEXTS)
    assert z.shape == (len(TEXTS), 32 * len(layers))
    assert np.abs(torch_encoder.encode(TEXTS) - z).max() < 1e-5
    ids = torch.tensor([torch_encoder.tokenizer.tokenize(TEXTS[:1])[0]])
    with torch.inference_mode():
        states = torch_encoder.module.model(input_ids=ids, output_hidden_states=True).hidden_states
        last = torch_encoder.module.last_layer()(ids, torch.ones_like(ids))
    for part, layer in enumerate(layers):
        mean = states[-1 - layer][0].mean(0)
        np.testing.assert_allclose(z[0, 32 * part : 32 * (part + 1)], mean / mean.norm(), atol=1e-5)
    np.testing.assert_allclose(z[:1, :32], last, atol=1e-5)


def test_encoding_leaves_a_module_in_training_as_it_was(tiny: tuple[Path, str], tiny_onnx: OnnxEncoder) -> None:
    encoder = TorchEncoder(tiny[0])
    encoder.module.train()
    assert np.abs(encoder.encode(TEXTS) - tiny_onnx.encode(TEXTS)).max() < 1e-5  # no dropout
    assert encoder.module.training


@pytest.fixture(scope="module")
def whole(minilm: tuple[Path, str]) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(minilm[0] / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    return tokenizer


@pytest.mark.parametrize(
    "text",
    [
        "card payment was declined " * 4_000,
        "Why?! " * 20_000,
        " " * 200_000 + "the words come late " * 300,
        "word" + "\n \t" * 30_000 + "another",
        "中文文本" * 20_000,
        "a" * 10_000 + " then words " * 1000,
        "https://example.org/a/b?c=d " * 4_000,
        "x" * 1_000_000,
        "😀" * 50_000,
    ],
    ids=["words", "punctuation", "late", "gap", "cjk", "blob", "urls", "run", "emoji"],
)
def test_a_huge_text_has_the_tokens_of_the_whole(minilm: tuple[Path, str], whole: Tokenizer, text: str) -> None:
    tokens = TextTokenizer(minilm[0], EncoderSpec.from_file(minilm[0] / "encoder.json"))
    assert tokens.tokenize([text, "short"]) == [whole.encode(text).ids, whole.encode("short").ids]


def test_batches_hold_texts_of_similar_length_within_their_limits(tiny: tuple[Path, str]) -> None:
    tokens = TextTokenizer(tiny[0], EncoderSpec.from_file(tiny[0] / "encoder.json"))
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, int(n))) for n in rng.integers(0, 90, 100)]
    batches = list(tokens.batches(texts, max_texts=7, max_tokens=128))
    assert sorted(np.concatenate([b.rows for b in batches]).tolist()) == list(range(100))
    ids = tokens.tokenize(texts)
    longest_before = 0
    for batch in batches:
        assert len(batch.rows) <= 7
        assert batch.input_ids.size <= 128
        lengths = batch.attention_mask.sum(1)
        assert batch.input_ids.shape[1] == lengths.max() <= 64
        assert lengths.min() >= longest_before
        longest_before = int(lengths.max())
        for row, given_ids, length in zip(batch.rows, batch.input_ids, lengths, strict=True):
            assert given_ids[:length].tolist() == ids[row]


def test_a_text_longer_than_a_batch_is_a_batch_of_its_own(tiny: tuple[Path, str]) -> None:
    tokens = TextTokenizer(tiny[0], EncoderSpec.from_file(tiny[0] / "encoder.json"))
    assert [len(b.rows) for b in tokens.batches(["card " * 60] * 3, max_tokens=8)] == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.onnx", b"garbage"),
        ("model.onnx", None),
        ("tokenizer.json", b"{}"),
        ("tokenizer.json", None),
        ("encoder.json", b"not json"),
        ("encoder.json", b"[]"),
        ("encoder.json", b'{"format": 2, "pooling": "mean", "max_tokens": 64, "dimension": 32, "pad_id": 0}'),
        ("encoder.json", b'{"format": 1, "pooling": "max", "max_tokens": 64, "dimension": 32, "pad_id": 0}'),
        (
            "encoder.json",
            b'{"format": 1, "pooling": "mean", "max_tokens": 64, "dimension": 32, "pad_id": 0, "precision": "int3"}',
        ),
        ("encoder.json", b'{"format": 1, "pooling": "mean", "max_tokens": 0, "dimension": 32, "pad_id": 0}'),
        ("encoder.json", b'{"format": 1, "pooling": "mean", "max_tokens": 64, "dimension": 33, "pad_id": 0}'),
        ("encoder.json", None),
    ],
)
def test_a_folder_with_an_odd_file_is_refused(
    tiny: tuple[Path, str], tmp_path: Path, name: str, content: bytes | None
) -> None:
    for path in tiny[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).unlink()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ArtefactCorrupt):
        OnnxEncoder(tmp_path, threads=1, digest="x")

"""A packed 4-bit model becomes an encoder folder that Pawl takes, with a tokenizer that reads as the file says."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from benchmarks.encoders import e5_from_q4
from benchmarks.encoders.charsmap import precompiled_charsmap
from benchmarks.encoders.e5_from_q4 import tokenizer_of
from benchmarks.encoders.q4 import Pieces, read_packed, unpacked
from benchmarks.harness import BenchmarkFailed
from pawl.classifier.encoders.backends.torch import PooledTransformer, load_transformer
from pawl.classifier.encoders.source import find_encoder

_HIDDEN, _BETWEEN, _LAYERS, _POSITIONS = 32, 64, 2, 64
_LETTERS = "abcdeqruy:."
_PIECES = ["<s>", "<pad>", "</s>", "<unk>", "▁", *_LETTERS, "▁ab", "cd"]
_REPLACED = {0xFF21: "a", 0x3000: " ", 0x09: " ", 0x01: "", 0x2460: "ab"}
_MATRICES = {"q": _HIDDEN, "k": _HIDDEN, "v": _HIDDEN, "ao": _HIDDEN, "fi": _BETWEEN, "fo": _HIDDEN}


def packed_halves(rng: np.random.Generator, weights: int) -> tuple[bytes, npt.NDArray[np.float32]]:
    """So many random weights as blocks, and what they stand for."""
    content, values = b"", []
    for _ in range(weights // 32):
        halves, scale = rng.integers(0, 16, 32), np.float16(rng.uniform(0.01, 0.1))
        content += struct.pack("<e", scale) + bytes(
            int(low | high << 4) for low, high in zip(halves[:16], halves[16:], strict=True)
        )
        values.append((halves.astype(np.float32) - 8) * np.float32(scale))
    return content, np.concatenate(values)


def packed_model() -> bytes:
    """A file of the form of `e5.c`: two layers of 32, eighteen pieces."""
    rng = np.random.default_rng(0)
    blob = [piece.encode() for piece in _PIECES]
    places = np.cumsum([0, *map(len, blob)]).astype("<u4")
    scores = np.array([0.0] * 4 + [-10.0 if len(piece) == 1 else -5.0 for piece in _PIECES[4:]], "<f4")
    table = b"".join(struct.pack(f"<IB{len(to)}I", at, len(to), *map(ord, to)) for at, to in _REPLACED.items())
    head = b"E5S1" + struct.pack("<I7ifi", 1, _HIDDEN, _LAYERS, 2, _BETWEEN, len(_PIECES), _POSITIONS, 2, 1e-12, 32)
    head += struct.pack("<5iQ", len(_PIECES), 0, 2, 1, 3, sum(map(len, blob))) + places.tobytes() + scores.tobytes()
    head += b"".join(blob) + struct.pack("<iI", len(_REPLACED), len(table)) + table
    tensors = _tensors(rng)
    directory, data = struct.pack("<i", len(tensors)), b""
    start = len(head) + 4 + sum(2 + len(name) + 21 for name in tensors)
    for name, (kind, weights, content) in tensors.items():
        directory += struct.pack("<H", len(name)) + name.encode()
        directory += struct.pack("<BIQQ", kind, weights, start + len(data), len(content))
        data += content
    return head + directory + data


def _tensors(rng: np.random.Generator) -> Mapping[str, tuple[int, int, bytes]]:
    sizes = {"emb.word": len(_PIECES) * _HIDDEN}
    plain = {"emb.pos": _POSITIONS * _HIDDEN, "emb.type": 2 * _HIDDEN, "emb.ln.w": _HIDDEN, "emb.ln.b": _HIDDEN}
    for layer in range(_LAYERS):
        sizes |= {f"l{layer}.{name}.w": _HIDDEN * (_BETWEEN if name[0] == "f" else _HIDDEN) for name in _MATRICES}
        plain |= {f"l{layer}.{name}.b": width for name, width in _MATRICES.items()}
        plain |= {f"l{layer}.{norm}.{one}": _HIDDEN for norm in ("aln", "oln") for one in "wb"}
    found = {name: (1, size, packed_halves(rng, size)[0]) for name, size in sizes.items()}
    return found | {name: (0, size, rng.normal(size=size).astype("<f4").tobytes()) for name, size in plain.items()}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The converted folder, made as a user makes it."""
    place = tmp_path_factory.mktemp("packed")
    content = packed_model()
    (place / "tiny.bin").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    e5_from_q4.main([str(place / "tiny.bin"), str(place / "encoder"), "--sha256", digest])
    return place / "encoder"


def test_weights_are_scale_times_half_minus_eight() -> None:
    content, values = packed_halves(np.random.default_rng(1), 96)
    assert np.array_equal(unpacked(b"##" + content, 96, 2), values)


def test_the_folder_is_an_encoder_and_says_what_it_is(folder: Path) -> None:
    source = find_encoder(str(folder), None)
    assert (source.pooling, source.prompt, source.max_tokens) == ("mean", "query: ", _POSITIONS)
    for name in ("README.md", "config.json"):
        assert "a 4-bit copy" in (folder / name).read_text()
    ids = torch.tensor([Tokenizer.from_file(str(folder / "tokenizer.json")).encode("query: ab cd").ids])
    z = PooledTransformer(load_transformer(folder), "mean")(ids, torch.ones_like(ids))
    assert z.shape == (1, _HIDDEN)
    assert z.isfinite().all()


def test_every_tensor_of_the_file_comes_into_the_folder_in_its_shape(folder: Path) -> None:
    from safetensors.numpy import load_file

    read, written = read_packed(packed_model()).tensors, load_file(folder / "model.safetensors")
    assert written["encoder.layer.1.output.dense.weight"].shape == (_HIDDEN, _BETWEEN)
    assert written["embeddings.word_embeddings.weight"].shape == (len(_PIECES), _HIDDEN)
    one = written["encoder.layer.1.intermediate.dense.weight"]
    assert np.array_equal(one, read["l1.fi.w"].reshape(_BETWEEN, _HIDDEN))
    assert sum(map(np.size, written.values())) == sum(map(np.size, read.values()))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("ab", ["<s>", "▁ab", "</s>"]),
        ("\uff21b  cd", ["<s>", "▁ab", "▁", "cd", "</s>"]),
        ("a\u3000\tb", ["<s>", "▁", "a", "▁", "b", "</s>"]),
        ("\u2460\x01cd", ["<s>", "▁ab", "cd", "</s>"]),
        ("xyz", ["<s>", "▁", "<unk>", "y", "<unk>", "</s>"]),
    ],
)
def test_the_tokenizer_replaces_folds_blanks_and_takes_the_likeliest_pieces(
    folder: Path, text: str, tokens: list[str]
) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert [tokenizer.id_to_token(one) for one in tokenizer.encode(text).ids] == tokens


@given(
    st.dictionaries(st.characters(min_codepoint=1, exclude_categories=["Cs"]), st.text("abcé中", max_size=3)),
    st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"])),
)
def test_a_charsmap_replaces_what_it_was_given_and_nothing_else(table: dict[str, str], others: str) -> None:
    pieces = Pieces([("<s>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)], 0, 1, 0, 2, {ord(k): v for k, v in table.items()})
    normalizer = tokenizer_of(pieces).normalizer
    for one in {*table, *others}:
        assert normalizer.normalize_str(one) == table.get(one, one)


def test_damage_is_named(tmp_path: Path) -> None:
    content = packed_model()
    for damaged in (b"GGUF" + content[4:], content[: len(content) // 8], content[:200], content[:-1000]):
        with pytest.raises(BenchmarkFailed):
            read_packed(damaged)
    (tmp_path / "other.bin").write_bytes(content)
    with pytest.raises(BenchmarkFailed, match="sha256"):
        e5_from_q4.main([str(tmp_path / "other.bin"), str(tmp_path / "encoder")])
    with pytest.raises(ValueError, match="code point 0"):
        precompiled_charsmap({0: "a"})

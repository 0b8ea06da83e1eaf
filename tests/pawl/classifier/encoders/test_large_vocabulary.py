"""An encoder of many languages: a Unigram tokenizer, and a table of token vectors that is served in int8."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from pawl.classifier.encoders import token_table
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.choice import Backends
from pawl.classifier.encoders.choice.proof import LEAST_COSINE
from pawl.classifier.encoders.export import export_encoder, write_encoder
from pawl.classifier.encoders.spec import SPEC_FILE, TABLE_FILE, TOKENIZER_FILE, EncoderSpec, Precision
from pawl.classifier.encoders.token_table import RoundedTable
from pawl.domain.reading import ReadingTotals
from tests.multilingual_encoder import write_multilingual_encoder

_TEXTS = ["my card is late", "我的卡还没有到", "转账失败了怎么办", "", "the 味道 is 很好", "where is my refund " * 30]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_multilingual_encoder(tmp_path_factory.mktemp("source") / "encoder")


@pytest.fixture(scope="module", autouse=True)
def every_table_is_large() -> Iterator[None]:
    patch = pytest.MonkeyPatch()
    patch.setattr(token_table, "_LARGE_TABLE_BYTES", 4)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    patch.undo()


@pytest.fixture(scope="module")
def exported(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Precision, Path]:
    folders: dict[Precision, Path] = {}
    for precision in ("float32", "int8"):
        folder = folders[precision] = tmp_path_factory.mktemp(precision) / "encoder"
        export_encoder(str(source), folder, max_tokens=256, pooled_layers=2, precision=precision)
    return folders


@pytest.mark.parametrize(
    ("precision", "library"), [("float32", "onnxruntime"), ("float32", "openvino"), ("int8", "onnxruntime")]
)
def test_a_rounded_table_gives_the_numbers_of_transformers(
    exported: dict[Precision, Path], precision: Precision, library: Literal["onnxruntime", "openvino"]
) -> None:
    folder = exported[precision]
    size = EncoderSpec.from_file(folder / SPEC_FILE).hidden
    assert (folder / TABLE_FILE).stat().st_size % size == 0, "a byte for each number"
    assert (folder / "model.onnx").stat().st_size < (folder / "model.safetensors").stat().st_size
    encoder = Backends(library, threads=1).open(folder, f"rounded {precision}")
    assert encoder.library == library, "and no other, whose numbers would be right as well"
    expected = TorchEncoder(folder, digest="").encode(_TEXTS).reshape(len(_TEXTS), 2, -1)
    cosines = (encoder.encode(_TEXTS).reshape(expected.shape) * expected).sum(-1)
    assert cosines.min() >= LEAST_COSINE[precision]


def test_prompt_positions_and_unknown_tokens_of_a_unigram_tokenizer(exported: dict[Precision, Path]) -> None:
    folder = exported["float32"]
    spec = EncoderSpec.from_file(folder / SPEC_FILE)
    assert (spec.prompt, spec.max_tokens, spec.pad_id) == ("query: ", 64, 1)
    reader = TorchEncoder(folder, digest="").tokenizer
    english, chinese, unknown, long = reader.read(["my card", "我的卡", "안녕하세요 여러분", "card " * 99])
    assert (english.unknown, chinese.unknown) == (0, 0)
    assert chinese.tokens >= 3, "the tokens of the prompt are not the text's"
    assert unknown.warnings != ()
    assert ReadingTotals.of([unknown]).is_unknown_language
    assert long.cut is not None
    assert long.warnings == ("truncated",)


def test_what_is_trained_is_float32_and_what_it_becomes_is_rounded_anew(
    exported: dict[Precision, Path], tmp_path: Path
) -> None:
    encoder = TorchEncoder(exported["int8"], digest="")
    table = encoder.module.model.get_input_embeddings()
    assert table.weight.dtype == torch.float32
    with torch.no_grad():
        table.weight.add_(0.3 * torch.randn(table.weight.shape, generator=torch.Generator().manual_seed(0)))
    tokenizer = (exported["int8"] / TOKENIZER_FILE).read_text(encoding="utf-8")
    digest = write_encoder(encoder.module.model, tokenizer, encoder.spec, tmp_path)
    assert encoder.module.model.get_input_embeddings() is table, "the model that trains on is as it was"
    served = Backends("onnxruntime", threads=1).open(tmp_path, digest).encode(_TEXTS)
    assert (served * encoder.encode(_TEXTS)).sum(1).min() / 2 >= LEAST_COSINE["int8"]
    assert (tmp_path / TABLE_FILE).read_bytes() != (exported["int8"] / TABLE_FILE).read_bytes()


def test_rows_are_rounded_each_by_its_own_largest_number() -> None:
    weight = torch.randn((50, 16), generator=torch.Generator().manual_seed(0)) * torch.logspace(-4, 2, 50)[:, None]
    weight[7] = 0.0
    rows = RoundedTable(weight)(torch.arange(50)[None])[0]
    assert rows.dtype == torch.float32
    worst = (rows - weight).abs().amax(1)
    assert np.all(worst.numpy() <= weight.abs().amax(1).numpy() / 127 / 2 * 1.001)

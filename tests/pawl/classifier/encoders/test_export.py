"""What `export_encoder` accepts, what it refuses, and that it gives the same folder for the same source."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel, DistilBertConfig, DistilBertModel, RobertaConfig, RobertaModel

from pawl.classifier.encoders.backends.onnx import OnnxEncoder
from pawl.classifier.encoders.backends.torch import TorchEncoder
from pawl.classifier.encoders.export import export_encoder, write_encoder
from pawl.classifier.encoders.spec import EncoderSpec, encoder_digest
from pawl.domain.encoder_presets import PRESETS
from pawl.domain.errors import EncoderRejected
from pawl.files import file_sha256
from tests.pawl.classifier.conftest import TEXTS
from tests.tiny_encoder import write_tiny_encoder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_tiny_encoder(tmp_path / "source")


def test_equal_sources_give_equal_digests(source: Path, tmp_path: Path, tiny: tuple[Path, str]) -> None:
    moved = shutil.copytree(source, tmp_path / "elsewhere")
    digest = export_encoder(str(source), tmp_path / "a", max_tokens=64)
    assert digest == export_encoder(str(moved), tmp_path / "b", max_tokens=64) == tiny[1]
    assert digest == encoder_digest(tmp_path / "b")
    other = write_tiny_encoder(tmp_path / "other", seed=1)
    assert export_encoder(str(other), tmp_path / "c", max_tokens=64) != digest
    assert export_encoder(str(source), tmp_path / "d", max_tokens=32) != digest


def test_an_exported_folder_can_be_a_source(tiny: tuple[Path, str], tmp_path: Path) -> None:
    assert export_encoder(str(tiny[0]), tmp_path, max_tokens=64) == tiny[1]


def test_a_trained_model_is_written_as_it_is(tiny: tuple[Path, str], tmp_path: Path) -> None:
    encoder = TorchEncoder(tiny[0])
    before = encoder.encode(TEXTS)
    with torch.no_grad():
        for parameter in encoder.module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.05)
    trained = encoder.encode(TEXTS)
    encoder.module.train()
    tokenizer = (tiny[0] / "tokenizer.json").read_text(encoding="utf-8")
    digest = write_encoder(encoder.module.model, tokenizer, encoder.spec, tmp_path)
    assert encoder.module.training
    assert digest != tiny[1]
    assert np.abs(OnnxEncoder(tmp_path, threads=1, digest=digest).encode(TEXTS) - trained).max() < 1e-5
    assert np.abs(TorchEncoder(tmp_path).encode(TEXTS) - trained).max() < 1e-6
    assert np.abs(before - trained).max() > 1e-2


def _as_sentence_transformer(folder: Path, pooling: dict[str, object], **sentence: object) -> None:
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    listing = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "modules.json").write_text(json.dumps(listing))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"word_embedding_dimension": 32} | pooling))
    (folder / "sentence_bert_config.json").write_text(json.dumps(sentence))


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode": "cls", "include_prompt": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode_lasttoken": True}, "last"),
        ({"pooling_mode_mean_sqrt_len_tokens": True}, "mean"),
    ],
)
def test_pooling_is_read_from_the_source(
    source: Path, tmp_path: Path, pooling: dict[str, object], expected: str
) -> None:
    _as_sentence_transformer(source, pooling, max_seq_length=40)
    digest = export_encoder(str(source), tmp_path / "out", max_tokens=64)
    spec = EncoderSpec.from_file(tmp_path / "out" / "encoder.json")
    assert (spec.pooling, spec.max_tokens, spec.dimension) == (expected, 40, 32)
    # Beside a longer text, so that there is padding, which must not count.
    z = OnnxEncoder(tmp_path / "out", threads=1, digest=digest).encode(["my card", "my new card is not here yet"])
    tokens = TorchEncoder(tmp_path / "out").tokenizer.tokenize(["my card"])
    model: torch.nn.Module = BertModel(BertConfig.from_pretrained(source), add_pooling_layer=False)
    model.eval()
    model.load_state_dict(load_file(source / "model.safetensors"))
    with torch.inference_mode():
        hidden = model(torch.tensor(tokens)).last_hidden_state[0]
    reference = {"cls": hidden[0], "last": hidden[-1], "max": hidden.amax(0), "mean": hidden.mean(0)}[expected]
    np.testing.assert_allclose(z[0], (reference / reference.norm()).numpy(), atol=1e-5)


def test_lower_casing_of_the_source_is_kept(source: Path, tmp_path: Path) -> None:
    tokenizer = json.loads((source / "tokenizer.json").read_text())
    tokenizer["normalizer"] = None
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    _as_sentence_transformer(source, {"pooling_mode_mean_tokens": True}, do_lower_case=True)
    digest = export_encoder(str(source), tmp_path / "out", max_tokens=64)
    upper, lower = OnnxEncoder(tmp_path / "out", threads=1, digest=digest).encode(["My CARD", "my card"])
    assert np.array_equal(upper, lower)


@pytest.mark.parametrize("kind", ["distilbert", "roberta"])
def test_other_architectures_export_and_agree(source: Path, tmp_path: Path, kind: str) -> None:
    vocabulary = json.loads((source / "config.json").read_text())["vocab_size"]
    torch.manual_seed(0)
    model: torch.nn.Module
    if kind == "distilbert":
        model = DistilBertModel(DistilBertConfig(vocab_size=vocabulary, dim=32, n_layers=2, n_heads=2, hidden_dim=64))
        positions = 512
    else:
        config = RobertaConfig(
            vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=50, pad_token_id=0, type_vocab_size=1,
        )  # fmt: skip
        model = RobertaModel(config)
        positions = 49  # numbered from pad_token_id + 1
    config_json = model.config.to_dict() | {"architectures": [type(model).__name__]}
    (source / "config.json").write_text(json.dumps(config_json))
    save_file(model.state_dict(), source / "model.safetensors", metadata={"format": "pt"})
    digest = export_encoder(str(source), tmp_path / "out", max_tokens=10_000)
    encoder = OnnxEncoder(tmp_path / "out", threads=1, digest=digest)
    assert encoder.spec.max_tokens == positions
    texts = [*TEXTS, "card " * 1000]
    assert np.abs(encoder.encode(texts) - TorchEncoder(tmp_path / "out").encode(texts)).max() < 1e-5


def _pickle_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def _drop_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop("encoder.layer.1.output.dense.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def _change_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))


def _add_dense(folder: Path) -> None:
    _as_sentence_transformer(folder, {"pooling_mode_mean_tokens": True})
    modules = json.loads((folder / "modules.json").read_text())
    modules.append({"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (folder / "modules.json").write_text(json.dumps(modules))


def _remote_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoModel": "code.Model", "AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text("raise SystemExit('the code of a model folder was run')")


@pytest.mark.parametrize(
    ("spoil", "problem"),
    [
        (_pickle_weights, "never read"),
        (_drop_a_weight, "weights are missing"),
        (_change_width, "another shape|cannot load"),
        (_add_dense, "Dense"),
        (_remote_code, "code of its own"),
        (lambda f: (f / "tokenizer.json").unlink(), "fast tokenizer"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "not a tokenizer"),
        (lambda f: (f / "config.json").unlink(), "config.json"),
        (lambda f: (f / "config.json").write_text("{"), "cannot load"),
        (lambda f: (f / "model.safetensors").write_bytes(b"garbage"), "damaged|cannot load"),
        (
            lambda f: _as_sentence_transformer(f, {"pooling_mode_weightedmean_tokens": True}),
            "pooling is",
        ),
        (lambda f: (f / "modules.json").write_text("[3]"), "cannot be read"),
    ],
)
def test_a_source_that_cannot_be_used_safely_is_refused(
    source: Path, tmp_path: Path, spoil: Callable[[Path], object], problem: str
) -> None:
    spoil(source)
    with pytest.raises(EncoderRejected, match=problem):
        export_encoder(str(source), tmp_path / "out", max_tokens=64)


def test_weights_must_have_the_digest_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    digest = file_sha256(source / "model.safetensors")
    export_encoder(str(source), tmp_path / "out", max_tokens=64, sha256=digest)
    with pytest.raises(EncoderRejected, match=f"{digest}, expected {'0' * 64}"):
        export_encoder(str(source), tmp_path / "out", max_tokens=64, sha256="0" * 64)
    with pytest.raises(EncoderRejected, match=PRESETS["small"].sha256):
        export_encoder("small", tmp_path / "out", max_tokens=64, sha256="0" * 64)


@pytest.mark.parametrize("missing", ["/no/such/folder", "./no-such-folder", "~/no/such"])
def test_a_folder_that_is_not_there_is_named(tmp_path: Path, missing: str) -> None:
    with pytest.raises(EncoderRejected, match="no such folder"):
        export_encoder(missing, tmp_path, max_tokens=64)


def test_a_hub_id_without_a_network_is_refused_clearly(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from pawl.classifier.encoders.export import export_encoder
from pawl.domain.errors import EncoderRejected
try:
    export_encoder("some-org/some-model", Path({str(tmp_path)!r}), max_tokens=64)
except EncoderRejected as error:
    print(error)
"""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "some-org/some-model" in done.stdout
    assert "neither a folder nor a hub id that can be reached" in done.stdout


def _prompted(folder: Path, prompts: object, default: str | None, **pooling: object) -> None:
    _as_sentence_transformer(folder, {"pooling_mode_mean_tokens": True, **pooling})
    config = {"prompts": prompts, "default_prompt_name": default}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(config))


def test_the_prompt_of_a_sentence_transformers_folder_is_put_before_every_text(source: Path, tmp_path: Path) -> None:
    plain = export_encoder(str(source), tmp_path / "plain", max_tokens=64)
    _prompted(source, {"query": "find : ", "document": "text : "}, "query")
    digest = export_encoder(str(source), tmp_path / "out", max_tokens=64)
    assert EncoderSpec.from_file(tmp_path / "out" / "encoder.json").prompt == "find : "
    expected = OnnxEncoder(tmp_path / "plain", digest=plain).encode(
        ["find : my card", "find : ", "find : " + "a " * 99]
    )
    for encoder in (OnnxEncoder(tmp_path / "out", digest=digest), TorchEncoder(tmp_path / "out")):
        np.testing.assert_allclose(encoder.encode(["my card", "", "a " * 99]), expected, atol=1e-5)


@pytest.mark.parametrize(("prompts", "default"), [({"query": "find : "}, None), ({}, None), (None, None)])
def test_a_prompt_that_is_no_default_is_not_used(
    source: Path, tmp_path: Path, prompts: object, default: str | None
) -> None:
    _prompted(source, prompts, default)
    export_encoder(str(source), tmp_path / "out", max_tokens=64)
    assert "prompt" not in json.loads((tmp_path / "out" / "encoder.json").read_text())


def test_a_prompt_that_cannot_be_followed_is_refused(source: Path, tmp_path: Path) -> None:
    _prompted(source, {"query": "find : "}, "document")
    with pytest.raises(EncoderRejected, match="default prompt is 'document'"):
        export_encoder(str(source), tmp_path / "out", max_tokens=64)
    shutil.rmtree(source / "1_Pooling")
    _prompted(source, {"query": "find : "}, "query", include_prompt=False)
    with pytest.raises(EncoderRejected, match="leaves the tokens of its prompt out"):
        export_encoder(str(source), tmp_path / "out", max_tokens=64)

"""Encoders that cannot be used, each as its makers might publish it, and what is to be said of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from tests.pawl.classifier.architectures import transformers, write_encoder_of
from tests.tiny_encoder import tiny_tokenizer


def _bert(folder: Path) -> Path:
    return write_encoder_of("bert", folder)


def _change(folder: Path, name: str, **values: object) -> None:
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def pickled_weights(folder: Path) -> None:
    weights = _bert(folder) / "model.safetensors"
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()


def weighted_pooling(folder: Path) -> None:
    kinds = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    (_bert(folder) / "1_Pooling").mkdir()
    (folder / "modules.json").write_text(json.dumps([{"path": path, "type": kind} for path, kind in kinds]))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))


def no_fast_tokenizer(folder: Path) -> None:
    (_bert(folder) / "tokenizer.json").unlink()


def encoder_decoder(folder: Path) -> None:
    sizes = {"d_model": 32, "d_kv": 16, "d_ff": 32, "num_layers": 1, "num_heads": 2}
    config = transformers.T5Config(vocab_size=tiny_tokenizer().get_vocab_size(), **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))


def custom_code(folder: Path) -> None:
    _change(_bert(folder), "config.json", model_type="mine", auto_map={"AutoModel": "code.M", "AutoConfig": "code.C"})
    (folder / "code.py").write_text("raise SystemExit('the code of a model folder was run')")


def too_many_ids(folder: Path) -> None:
    _change(_bert(folder), "config.json", vocab_size=100)
    spoil(folder, "word_embeddings.weight", lambda weight: weight[:100])


def nan(folder: Path) -> None:
    spoil(_bert(folder), "layer.1.output.dense.weight", lambda weight: weight * torch.nan)


def infinite(folder: Path) -> None:
    spoil(_bert(folder), "layer.1.output.dense.weight", lambda weight: weight * torch.inf)


def missing(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)


def spoil(folder: Path, name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Path:
    """Changes the first of the weights whose name has this in it."""
    weights = load_file(folder / "model.safetensors")
    key = next(key for key in weights if name in key)
    weights[key] = change(weights[key]).contiguous()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


UNUSABLE: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickled weights": (pickled_weights, "pickled ones .* are never read"),
    "weighted pooling": (weighted_pooling, r"its pooling is \['weightedmean'\]; Pawl has one of cls, lasttoken, max, "),
    "no fast tokenizer": (no_fast_tokenizer, "no tokenizer.json .a fast tokenizer."),
    "encoder-decoder": (encoder_decoder, "it is an encoder-decoder"),
    "custom code": (custom_code, "it needs code of its own"),
    "too many ids": (too_many_ids, r"ids up to \d+, its weights have vectors for those below 100"),
    "NaN": (nan, "is not a number"),
    "infinite": (infinite, "is not a number"),
    "missing": (missing, "there is no such folder"),
}
"""How it is written, and what is said, as a pattern."""

"""Tiny random encoders of the architectures people use, as transformers writes them, with a tokenizer that fits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers as untyped
from safetensors.torch import load_file, save_file

from tests.tiny_encoder import tiny_tokenizer

transformers: Any = untyped
_WIDTH = 32
_POSITIONS = 45
"""No multiple of eight."""
_VOCABULARY = tiny_tokenizer().get_vocab_size()
_SHAPE = {
    "vocab_size": _VOCABULARY,
    "hidden_size": _WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": _POSITIONS,
    "initializer_range": 0.1,  # with the usual 0.02 what a layer does would hardly show
}
_DEBERTA = {
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 16,
    "share_att_key": True,
    "norm_rel_ebd": "layer_norm",
    "position_biased_input": False,
    "type_vocab_size": 0,
}
_MODERN = {"local_attention": 8, "global_attn_every_n_layers": 2, "pad_token_id": 0}
_GPT2 = {"n_embd": _WIDTH, "n_layer": 2, "n_head": 2, "n_positions": _POSITIONS}

CONFIGS: dict[str, Callable[[], Any]] = {
    "bert": lambda: transformers.BertConfig(**_SHAPE),
    "roberta": lambda: transformers.RobertaConfig(**_SHAPE, pad_token_id=1, type_vocab_size=1),
    "distilbert": lambda: transformers.DistilBertConfig(
        vocab_size=_VOCABULARY, dim=_WIDTH, n_layers=2, n_heads=2, hidden_dim=64, max_position_embeddings=_POSITIONS
    ),
    "xlm-roberta": lambda: transformers.XLMRobertaConfig(**_SHAPE, pad_token_id=1, type_vocab_size=1),
    "deberta-v2": lambda: transformers.DebertaV2Config(**_SHAPE, **_DEBERTA),
    "modernbert": lambda: transformers.ModernBertConfig(**_SHAPE, **_MODERN),
    "mpnet": lambda: transformers.MPNetConfig(**_SHAPE, pad_token_id=1),
    "electra": lambda: transformers.ElectraConfig(**_SHAPE, embedding_size=16),
    "albert": lambda: transformers.AlbertConfig(**_SHAPE, embedding_size=16),
    "qwen2": lambda: transformers.Qwen2Config(**_SHAPE, num_key_value_heads=1),
    "gpt2": lambda: transformers.GPT2Config(
        vocab_size=_VOCABULARY, bos_token_id=2, eos_token_id=3, initializer_range=0.1, **_GPT2
    ),
}


def write_encoder_of(architecture: str, folder: Path) -> Path:
    """Writes config, weights and tokenizer of a random encoder; returns the folder."""
    folder.mkdir(parents=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModel.from_config(CONFIGS[architecture]())
    model.save_pretrained(folder)
    tiny_tokenizer().save(str(folder / "tokenizer.json"))
    return folder


def halve(folder: Path) -> Path:
    """The weights in float16."""
    path = folder / "model.safetensors"
    save_file({name: tensor.half() for name, tensor in load_file(path).items()}, path, metadata={"format": "pt"})
    return folder


def shard(folder: Path) -> Path:
    """The weights in several files, with an index."""
    model = transformers.AutoModel.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="20KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    return folder

"""A random two-layer XLM-R with a Unigram tokenizer that reads Latin and Chinese: `multilingual` in small."""

from __future__ import annotations

import json
import string
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from tests.tiny_encoder import WORDS

CHINESE = "我的卡还没有到收不转账失败了退款在哪里密码忘记怎么办更换手机号码快递味道很好太差难吃分量足送餐慢"
_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>")  # in XLM-R's order


def write_multilingual_encoder(folder: Path, *, seed: int = 0, dimension: int = 32) -> Path:
    """Writes config, safetensors and tokenizer in the layout of sentence-transformers, with a prompt; returns it."""
    import torch
    from transformers import XLMRobertaConfig, XLMRobertaModel

    tokenizer = unigram_tokenizer()
    config = XLMRobertaConfig(
        vocab_size=tokenizer.get_vocab_size(),
        hidden_size=dimension,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=2 * dimension,
        max_position_embeddings=66,  # numbered from the padding id on: 64 tokens
        type_vocab_size=1,
        pad_token_id=1,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = XLMRobertaModel(config, add_pooling_layer=False)
    model.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    modules = [("", "sentence_transformers.models.Transformer"), ("1_Pooling", "sentence_transformers.models.Pooling")]
    listing = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(modules)]
    (folder / "1_Pooling").mkdir()
    for name, value in {
        "modules.json": listing,
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "config_sentence_transformers.json": {"prompts": {"query": "query: "}, "default_prompt_name": "query"},
    }.items():
        (folder / name).write_text(json.dumps(value))
    return folder


def unigram_tokenizer() -> Tokenizer:
    """Whole words, then characters; whatever else is `<unk>`."""
    words = [f"▁{word}" for word in (*WORDS, "query:")]
    characters = ["▁", *string.ascii_lowercase, *string.digits, *string.punctuation, *dict.fromkeys(CHINESE)]
    pieces = [(token, 0.0) for token in _SPECIAL]
    pieces += [(word, -5.0 - len(word) / 100) for word in dict.fromkeys(words)]
    pieces += [(character, -9.0) for character in dict.fromkeys(characters)]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=3, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(list(_SPECIAL))
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return tokenizer

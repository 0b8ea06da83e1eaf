"""The `encoder/` folder of a version: its files, what `encoder.json` says, and its digest.

Does not import torch, so that the serving process can read the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pawl.domain.errors import ArtefactCorrupt
from pawl.files import file_sha256

ONNX_FILE = "model.onnx"
TABLE_FILE = "tokens.bin"  # a large table of token vectors, which the ONNX file refers to
WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
TOKENIZER_FILE = "tokenizer.json"
SPEC_FILE = "encoder.json"
REFERENCE_FILE = "reference.safetensors"

Pooling = Literal["mean", "cls", "max", "last", "none"]
Precision = Literal["float32", "int8"]
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """How a text becomes a vector, as far as a transformer's own files do not say it (`encoder.json`).

    pooling     `mean` over the tokens (special ones too, padding not), `max` over them, `cls`: the first, `last`: the
                last one, or `none`: no encoder.
    max_tokens  longer texts are cut to this many tokens, special ones included.
    dimension   d, the length of z, which is the layers' pooled states end to end, each scaled to unit length.
    layers      which layers are pooled, counted down from the last one, which is 0 and comes first.
    pad_id      token id that fills short rows of a batch.
    precision   of the weight matrices in `model.onnx`, which serves; what is trained is float32.
    prompt      put before every text, as its makers trained it ("query: ").
    """

    pooling: Pooling
    max_tokens: int
    dimension: int
    pad_id: int = 0
    layers: tuple[int, ...] = (0,)
    precision: Precision = "float32"
    prompt: str = ""

    @property
    def hidden(self) -> int:
        """Length of one layer's part of z."""
        return self.dimension // max(len(self.layers), 1)

    @property
    def is_none(self) -> bool:
        """Whether there is no encoder."""
        return self.pooling == "none"

    def to_json(self) -> str:
        """The text of `encoder.json`; equal specs give equal bytes."""
        value = {"format": _FORMAT, **asdict(self)}
        # What is as it always was is left out: the bytes, and with them the digest, of older encoders stay the same.
        if self.precision == "float32":
            del value["precision"]
        if not self.prompt:
            del value["prompt"]
        return json.dumps(value, indent=2, sort_keys=True) + "\n"

    @staticmethod
    def from_file(path: Path) -> EncoderSpec:
        """Reads `encoder.json`; raises `ArtefactCorrupt` when it is missing or odd."""
        try:
            value: dict[str, Any] = json.loads(path.read_bytes())
            if value["format"] != _FORMAT:
                raise ArtefactCorrupt(path=path, problem=f"format {value['format']!r}, this Pawl reads {_FORMAT}")
            if value["pooling"] not in get_args(Pooling):
                raise ArtefactCorrupt(path=path, problem=f"unknown pooling {value['pooling']!r}")
            precision = value.get("precision", "float32")
            if precision not in get_args(Precision):
                raise ArtefactCorrupt(path=path, problem=f"unknown precision {precision!r}")
            spec = EncoderSpec(
                pooling=value["pooling"],
                max_tokens=int(value["max_tokens"]),
                dimension=int(value["dimension"]),
                pad_id=int(value["pad_id"]),
                layers=tuple(int(layer) for layer in value["layers"]),
                precision=precision,
                prompt=str(value.get("prompt", "")),
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise ArtefactCorrupt(path=path, problem=f"not an encoder.json: {error!r}") from error
        if spec.is_none:
            if spec != NO_ENCODER_SPEC:
                raise ArtefactCorrupt(path=path, problem=f"it says that there is no encoder, and describes one: {spec}")
            return spec
        # The last layer first: R, novelty and fine-tuning all take the first `hidden` numbers of z for it.
        if spec.layers[:1] != (0,) or list(spec.layers) != sorted(set(spec.layers)):
            raise ArtefactCorrupt(path=path, problem=f"layers {spec.layers}, expected 0 and then rising ones")
        if min(spec.max_tokens, spec.dimension, spec.pad_id + 1) < 1 or spec.dimension % len(spec.layers):
            raise ArtefactCorrupt(path=path, problem=f"numbers out of range in {spec}")
        return spec


NO_ENCODER_SPEC = EncoderSpec(pooling="none", max_tokens=0, dimension=0, layers=())
"""Of an `encoder/` folder that has no encoder, and no file but `encoder.json`."""


def digest_of_files(files: Mapping[str, str]) -> str:
    """Returns the hex SHA-256 of the sorted (name, hex SHA-256) pairs of a folder's files, without the reference."""
    # The reference follows from the other files, but its last bits depend on the machine that wrote it (ADR 0024).
    listing = "".join(f"{name}\0{digest}\n" for name, digest in sorted(files.items()) if name != REFERENCE_FILE)
    return hashlib.sha256(listing.encode()).hexdigest()


NO_ENCODER_DIGEST = digest_of_files({SPEC_FILE: hashlib.sha256(NO_ENCODER_SPEC.to_json().encode()).hexdigest()})
"""Of such a folder, in every home."""


def encoder_digest(folder: Path) -> str:
    """Returns the digest that identifies an encoder: of the files in its folder, without the reference."""
    return digest_of_files({path.name: file_sha256(path) for path in folder.iterdir() if path.is_file()})

"""Finds an encoder's published files and reads how it pools, before anything is loaded. Does not import torch.

A source is the name of a preset, a folder in the Hugging Face layout, a hub id, or `none`. The layout of
sentence-transformers (`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`) is read where it is there.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pawl.classifier.encoders.retrieval import locate
from pawl.classifier.encoders.spec import (
    CONFIG_FILE,
    TOKENIZER_FILE,
    WEIGHTS_FILE,
    Pooling,
    digest_of_files,
)
from pawl.domain.encoder_presets import preset_of, preset_with
from pawl.domain.encoders import NO_ENCODER
from pawl.domain.errors import EncoderRejected
from pawl.files import file_sha256

_MODULES = ("Transformer", "Pooling", "Normalize")
# As `1_Pooling/config.json` names them. The mean over the root of the length has the direction of the mean, and z is
# scaled to unit length.
_POOLING_MODES: dict[str, Pooling] = {
    "mean": "mean",
    "mean_sqrt_len": "mean",
    "cls": "cls",
    "max": "max",
    "lasttoken": "last",
}


@dataclass(frozen=True, slots=True)
class EncoderSource:
    """An encoder's files as published.

    `max_tokens` is the limit that they state, None where they state none. `prompt` is put before every text. `folder`
    of no encoder is nowhere.
    """

    folder: Path
    pooling: Pooling
    max_tokens: int | None
    lowercase: bool
    prompt: str = ""

    @property
    def is_none(self) -> bool:
        """Whether there is to be no encoder."""
        return self.pooling == "none"

    @property
    def description(self) -> str:
        """Where it lies and how it pools, for people."""
        return "no encoder: words alone" if self.is_none else f"{self.folder}, {self.pooling} pooling"

    @property
    def weights_sha256(self) -> str | None:
        """Hex SHA-256 of the weights, as `PAWL_ENCODER_SHA256` names it; None where they are in several files."""
        weights = self.folder / WEIGHTS_FILE
        return file_sha256(weights) if not self.is_none and weights.is_file() else None

    def digest(self) -> str:
        """Hex SHA-256 of weights, tokenizer and how they are used; the same wherever the folder lies."""
        paths = [] if self.is_none else [*self.folder.glob("*.safetensors"), self.folder / TOKENIZER_FILE]
        files = {path.name: file_sha256(path) for path in paths}
        used = (self.pooling, self.lowercase, self.prompt, self.max_tokens)
        return digest_of_files(files | {"": hashlib.sha256(repr(used).encode()).hexdigest()})


def find_encoder(source: str, sha256: str | None, *, here_only: bool = False) -> EncoderSource:
    """Finds an encoder and checks that it is one Pawl can use safely.

    Args:
        source: The name of a preset, a folder, a hub id, or `none`: no encoder.
        sha256: Hex SHA-256 of `model.safetensors`; that of a preset is always checked as well.
        here_only: Whether a hub id is looked for on this machine alone.

    Raises:
        EncoderRejected: not found, weights that are not safetensors (others would have to be unpickled), no fast
            tokenizer, a wrong digest, or modules that Pawl does not have.
    """
    if source == NO_ENCODER:
        if sha256 is not None:
            raise EncoderRejected(path=source, problem="no encoder has no weights, and a digest of weights was given")
        return EncoderSource(Path(), "none", None, lowercase=False)
    folder = locate(source, here_only=here_only)
    for name, problem in (
        (CONFIG_FILE, "it has no config.json"),
        (TOKENIZER_FILE, "it has no tokenizer.json (a fast tokenizer); save one with its tokenizer's library"),
    ):
        if not (folder / name).is_file():
            raise EncoderRejected(path=folder, problem=problem)
    if not any(folder.glob("*.safetensors")):
        problem = "it has no safetensors weights; pickled ones (.bin, .pt) are never read, convert them first"
        raise EncoderRejected(path=folder, problem=problem)
    expected = {sha256} if sha256 is not None else set()
    if (preset := preset_of(source)) is not None:
        expected.add(preset.sha256)
    if expected:
        _check_weights(folder, expected)
    sentence = _read_json(folder / "sentence_bert_config.json")
    limits = [sentence.get("max_seq_length"), _read_json(folder / "tokenizer_config.json").get("model_max_length")]
    prompt = _read_prompt(folder) or _prompt_of_preset(folder)
    return EncoderSource(
        folder=folder,
        pooling=_read_pooling(folder, prompt),
        max_tokens=min((int(n) for n in limits if isinstance(n, int | float) and n > 0), default=None),
        lowercase=bool(sentence.get("do_lower_case", False)),
        prompt=prompt,
    )


def _check_weights(folder: Path, expected: set[str]) -> None:
    weights = folder / WEIGHTS_FILE
    if not weights.is_file():
        problem = f"a digest is checked for weights in one {WEIGHTS_FILE}; these are in several files"
        raise EncoderRejected(path=folder, problem=problem)
    digest = file_sha256(weights)
    if expected != {digest}:
        wanted = " and ".join(sorted(expected))
        raise EncoderRejected(path=weights, problem=f"its sha256 is {digest}, expected {wanted}")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_bytes())
    except ValueError as error:
        raise EncoderRejected(path=path, problem=f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise EncoderRejected(path=path, problem="not a JSON object")
    return value


def _read_prompt(folder: Path) -> str:
    """Returns the default prompt of sentence-transformers, empty where there is none."""
    path = folder / "config_sentence_transformers.json"
    config = _read_json(path)
    name, prompts = config.get("default_prompt_name"), config.get("prompts") or {}
    if name is None:
        return ""
    if not isinstance(prompts, dict) or not isinstance(prompts.get(name), str):
        raise EncoderRejected(path=path, problem=f"its default prompt is {name!r}, which is not among its prompts")
    return str(prompts[name])


def _prompt_of_preset(folder: Path) -> str:
    """Returns what a preset puts before every text, where the folder has its weights, whoever put them there."""
    weights = folder / WEIGHTS_FILE
    preset = preset_with(weights.stat().st_size) if weights.is_file() else None
    # Only weights of the right size are read: half a gigabyte takes a second.
    return preset.prompt if preset is not None and preset.prompt and file_sha256(weights) == preset.sha256 else ""


def _read_pooling(folder: Path, prompt: str) -> Pooling:
    """Returns the pooling of a sentence-transformers folder; `mean` for a plain AutoModel folder, which states none."""
    path = folder / "modules.json"
    if not path.is_file():
        return "mean"
    try:
        modules = [(str(m["type"]).rpartition(".")[2], str(m["path"])) for m in json.loads(path.read_bytes())]
    except (ValueError, KeyError, TypeError) as error:
        raise EncoderRejected(path=path, problem=f"cannot be read: {error!r}") from error
    odd = sorted({kind for kind, _ in modules} - set(_MODULES))
    if odd:
        raise EncoderRejected(path=path, problem=f"it has modules that Pawl does not run: {', '.join(odd)}")
    places = [place for kind, place in modules if kind == "Pooling"]
    if not places:
        return "mean"
    config = _read_json(folder / places[0] / CONFIG_FILE)
    modes = {key for key, on in config.items() if key.startswith("pooling_mode_") and on is True}
    names = {"cls" if "cls" in m else m.removeprefix("pooling_mode_").removesuffix("_tokens") for m in modes}
    if isinstance(config.get("pooling_mode"), str):
        names = {config["pooling_mode"]}
    if prompt and config.get("include_prompt") is False:
        raise EncoderRejected(path=folder, problem="its pooling leaves the tokens of its prompt out; Pawl has no such")
    if len(names) != 1 or not names <= set(_POOLING_MODES):
        problem = f"its pooling is {sorted(names)}; Pawl has one of {', '.join(sorted(_POOLING_MODES))}"
        raise EncoderRejected(path=folder, problem=problem)
    return _POOLING_MODES[names.pop()]

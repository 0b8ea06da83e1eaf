"""The manifest that makes a version's folder self-describing. Frozen values, no I/O.

A version's folder:

    manifest.json                 this, written last
    encoder/model.onnx            the artefact that serves and that the learner embeds with
    encoder/tokens.bin            of a large vocabulary: the token vectors in int8, which model.onnx refers to
    encoder/model.safetensors     the weights, for training on (with config.json)
    encoder/config.json
    encoder/tokenizer.json
    encoder/encoder.json          pooling, normalisation, maximal length, dimension, prompt
    encoder/reference.safetensors embeddings of some texts by transformers, by which backends are proven
    features.safetensors          `projection` (M, d_0) and `centre` (d,) or (0,), float32
    heads/<task>.safetensors      the semantic head: `weights` (p, C), `offsets` (C,), float32
    lexical/<task>.safetensors    the lexical head, where there is one: `weights` (size, C), `rarity` (size,),
                                  `quantiles` (101,), float32, and `kept`, uint64, the texts that it never answers
                                  alone
    novelty/<task>.safetensors    `factor` (d_0, d_0), `quantiles` (101,), `leverage_weight` (1,), float32
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from pawl.domain.errors import ArtefactCorrupt
from pawl.domain.versions import HeadInfo, VersionKind
from pawl.json_values import Json

FORMAT = 1
ENCODER_FOLDER = "encoder"
FEATURES_FILE = "features.safetensors"
MANIFEST_FILE = "manifest.json"


def head_file(task: str) -> str:
    """Path of a task's semantic head inside the folder. Names of tasks are restricted to `[a-z0-9_-]`."""
    return f"heads/{task}.safetensors"


def lexical_file(task: str) -> str:
    """Path of a task's lexical head inside the folder."""
    return f"lexical/{task}.safetensors"


def novelty_file(task: str) -> str:
    """Path of what tells how unusual a text is for a task."""
    return f"novelty/{task}.safetensors"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a version is. `files` maps paths inside the folder to hex SHA-256."""

    version: int
    parent: int | None
    kind: VersionKind
    encoder_digest: str
    heads: Mapping[str, HeadInfo]
    settings: Json = field(default_factory=dict)
    watermark: int = 0
    libraries: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    format: int = FORMAT

    def with_files(self, files: Mapping[str, str]) -> Manifest:
        """The same manifest with another table of files."""
        return replace(self, files=dict(files))

    def head_digests(self) -> dict[str, str]:
        """Paths of the heads' files, with the digests by which the ledger knows them."""
        digests = {head_file(task): info.digest for task, info in self.heads.items()}
        return digests | {
            lexical_file(task): info.lexical.digest for task, info in self.heads.items() if info.lexical is not None
        }

    def to_json(self) -> Json:
        """Plain JSON values."""
        return asdict(self)

    @staticmethod
    def from_json(value: Any, path: str) -> Manifest:
        """Parses untrusted JSON; raises `ArtefactCorrupt` naming `path` when a field is missing or odd."""
        try:
            # Before any other field, which another format may have in another form: a newer Pawl's folder is named as
            # such.
            if value["format"] != FORMAT:
                raise ArtefactCorrupt(path=path, problem=f"format {value['format']!r}, this Pawl reads {FORMAT}")
            heads = {str(task): HeadInfo.from_json(head) for task, head in value["heads"].items()}
            return Manifest(
                version=int(value["version"]),
                parent=None if value["parent"] is None else int(value["parent"]),
                kind=VersionKind(value["kind"]),
                encoder_digest=str(value["encoder_digest"]),
                heads=heads,
                settings=dict(value["settings"]),
                watermark=int(value["watermark"]),
                libraries={str(k): str(v) for k, v in value["libraries"].items()},
                files={str(k): str(v) for k, v in value["files"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtefactCorrupt(path=path, problem=f"bad manifest: {error!r}") from error

"""What transformers makes of some texts, kept beside an encoder, so that whoever opens it can prove a backend by it.

The file is not part of the encoder's digest: it says nothing about the encoder that its other files do not say.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from pawl.classifier.encoders.spec import REFERENCE_FILE
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats


@dataclass(frozen=True, slots=True)
class Reference:
    """`embeddings` of `texts` by transformers, each text alone, shape (n, d).

    `export_problem` says why there is no ONNX file, empty where there is one.
    """

    texts: tuple[str, ...]
    embeddings: Floats
    export_problem: str = ""

    def write(self, folder: Path) -> None:
        """Writes the file into an encoder folder."""
        about = {"texts": json.dumps(self.texts), "export_problem": self.export_problem}
        save_file({"embeddings": np.ascontiguousarray(self.embeddings)}, folder / REFERENCE_FILE, metadata=about)

    @staticmethod
    def read(folder: Path) -> Reference:
        """Reads it; raises `ArtefactCorrupt` when it is missing or odd."""
        path = folder / REFERENCE_FILE
        try:
            with safe_open(path, framework="numpy") as file:
                about, embeddings = file.metadata() or {}, file.get_tensor("embeddings")
            texts = tuple(str(text) for text in json.loads(about["texts"]))
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise ArtefactCorrupt(path=path, problem=f"not a file of reference embeddings: {error!r}") from error
        if embeddings.dtype != np.float32 or embeddings.ndim != 2 or len(embeddings) != len(texts) or not texts:
            raise ArtefactCorrupt(path=path, problem=f"{len(texts)} texts, embeddings of shape {embeddings.shape}")
        return Reference(texts, embeddings, about.get("export_problem", ""))

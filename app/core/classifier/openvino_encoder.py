"""The OpenVINO backend: float32 weights, computed in bfloat16 where the CPU does that natively. No torch."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from app.core.classifier.encoder_folder import ONNX_FILE
from app.core.classifier.folder_encoder import FolderEncoder
from app.core.classifier.tokenization import Ids, TokenBatch
from app.core.domain.errors import ArtefactCorrupt
from app.core.ports import Floats
from app.core.threads import thread_count

_WIDTH = 8  # tokens: batches are padded to a multiple of it
_KERNELS = 500  # kept by OpenVINO, which makes new ones for every shape


class OpenVinoEncoder(FolderEncoder):
    """An `encoder/` folder of float32 weights on OpenVINO, CPU. Implements the port `Encoder`; thread-safe.

    Kernels are made and kept for every shape of batch: 850 MB after four hundred of them. So batches are padded to few
    shapes (340 MB), and no more than some hundred kernels are kept.

    In bfloat16 (Kalamkar et al. 2019) a text's embedding is within 0.01 of the one in float32 and depends on the texts
    beside it by as much: kernels of other shapes round at other places.

    Args:
        folder: The folder, verified already.
        threads: Threads of one forward pass; 0 means one for each core this process may use.
        digest: The folder's digest.

    Raises:
        ArtefactCorrupt: A file is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: Path, *, threads: int = 0, digest: str) -> None:
        super().__init__(folder, digest)
        self._model = _compile(folder / ONNX_FILE, thread_count(threads))
        self._one_at_a_time = threading.Lock()  # a compiled model keeps one request's buffers; a run takes all threads
        width = self._model.output("embedding").partial_shape[1]
        if width != self.spec.dimension:
            problem = f"an embedding of {width} numbers, expected {self.spec.dimension}"
            raise ArtefactCorrupt(path=folder / ONNX_FILE, problem=problem)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), float32, unit length, in the order of the texts."""
        z = np.empty((len(texts), self.spec.dimension), dtype=np.float32)
        for batch in self.tokenizer.batches(texts):
            input_ids, attention_mask = _padded(batch)
            with self._one_at_a_time:
                found = self._model({"input_ids": input_ids, "attention_mask": attention_mask})
                z[batch.rows] = found["embedding"][: len(batch.rows)]
        return z


def _padded(batch: TokenBatch) -> tuple[Ids, Ids]:
    """Ids and mask, their rows a power of two and their width a multiple of eight. Added rows see their first token."""
    rows, width = batch.input_ids.shape
    shape = (1 << (rows - 1).bit_length(), -(-width // _WIDTH) * _WIDTH)
    input_ids, attention_mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    input_ids[:rows, :width] = batch.input_ids
    attention_mask[:rows, :width] = batch.attention_mask
    attention_mask[rows:, 0] = 1  # a mean over no token at all would be 0 / 0
    return input_ids, attention_mask


def _compile(path: Path, threads: int) -> Any:
    import openvino

    core = openvino.Core()
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": False}
    config["CPU_RUNTIME_CACHE_CAPACITY"] = _KERNELS
    try:
        return core.compile_model(core.read_model(path), "CPU", config)
    except RuntimeError as error:
        raise ArtefactCorrupt(path=path, problem=f"OpenVINO cannot load it: {error}") from error

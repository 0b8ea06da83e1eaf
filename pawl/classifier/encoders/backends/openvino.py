"""The OpenVINO backend: float32 weights, computed in bfloat16 where the CPU does that natively. No torch."""

from __future__ import annotations

import threading
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np

from pawl.classifier.encoders.backends.folder_encoder import ParallelEncoder
from pawl.classifier.encoders.spec import ONNX_FILE, EncoderSpec
from pawl.classifier.encoders.tokenization import Ids, TokenBatch
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats

_WIDTH = 8  # tokens: batches are padded to a multiple of it
_FIRST_CALL = threading.Lock()
_KERNELS = 500  # kept by OpenVINO, which makes new ones for every shape


class OpenVinoEncoder(ParallelEncoder):
    """An `encoder/` folder of float32 weights on OpenVINO, CPU. Implements the port `Encoder`.

    OpenVINO makes and keeps kernels for every shape of batch: 850 MB after four hundred shapes. So batches are padded
    to few shapes (340 MB), and at most 500 kernels are kept.

    In bfloat16 (Kalamkar et al. 2019) an embedding is within 0.01 of the one in float32, and the texts beside a text
    change it by as much, because kernels of other shapes round at other places.

    Args:
        folder: The folder, verified already.
        threads: Batches at a time; 0 means one for each core this process may use.
        digest: The folder's digest.

    Raises:
        ArtefactCorrupt: A file is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: Path, *, threads: int = 0, digest: str) -> None:
        super().__init__(folder, digest, threads)
        self._model = _compile(folder / ONNX_FILE, self.threads)
        self._requests: SimpleQueue[Any] = SimpleQueue()  # each has its own buffers and runs one batch at a time
        for _ in range(self.threads):
            self._requests.put(self._model.create_infer_request())
        width = self._model.output("embedding").partial_shape[1]
        if width.is_static and width != self.spec.dimension:
            problem = f"an embedding of {width} numbers, expected {self.spec.dimension}"
            raise ArtefactCorrupt(path=folder / ONNX_FILE, problem=problem)
        # The first call of a process looks up NumPy's interface under a lock, and lets go of the GIL there: a second
        # thread that makes its first call meanwhile would wait for that lock with the GIL in hand, and both for ever.
        with _FIRST_CALL:
            self.encode(["the first call"])

    def embed(self, batch: TokenBatch) -> Floats:
        """See `ParallelEncoder.embed`. Waits while as many batches as there are threads are computed."""
        input_ids, attention_mask = _padded(batch, self.spec)
        request = self._requests.get()
        try:
            outputs = request.infer({"input_ids": input_ids, "attention_mask": attention_mask}, share_outputs=True)
            return np.array(outputs["embedding"][: len(batch.rows)])  # a copy, because the next batch reuses the buffer
        finally:
            self._requests.put(request)


def _padded(batch: TokenBatch, spec: EncoderSpec) -> tuple[Ids, Ids]:
    """Returns ids and mask whose rows are a power of two and whose width is a multiple of eight.

    The width is at most `max_tokens`: the model may have no position beyond, and OpenVINO reads past the end of the
    table without an error. The padding is the padding id, because some models count positions from it.
    """
    rows, width = batch.input_ids.shape
    # The next power of two from `rows` on; -(-a // b) rounds up.
    shape = (1 << (rows - 1).bit_length(), min(-(-width // _WIDTH) * _WIDTH, spec.max_tokens))
    input_ids, attention_mask = np.full(shape, spec.pad_id, np.int64), np.zeros(shape, np.int64)
    input_ids[:rows, :width] = batch.input_ids
    attention_mask[:rows, :width] = batch.attention_mask
    attention_mask[rows:, 0] = 1  # a mean over no token at all would be 0 / 0
    return input_ids, attention_mask


def _compile(path: Path, threads: int) -> Any:
    import openvino

    core = openvino.Core()
    config: dict[str, Any] = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": threads, "ENABLE_CPU_PINNING": False}
    config["CPU_RUNTIME_CACHE_CAPACITY"] = _KERNELS
    try:
        return core.compile_model(core.read_model(path), "CPU", config)
    except RuntimeError as error:
        raise ArtefactCorrupt(path=path, problem=f"OpenVINO cannot load it: {error}") from error

"""The ONNX Runtime backend: what serves, and what the learner embeds with. No torch."""

from __future__ import annotations

from pathlib import Path

import onnxruntime as ort

from pawl.classifier.encoders.backends.folder_encoder import ParallelEncoder
from pawl.classifier.encoders.spec import ONNX_FILE
from pawl.classifier.encoders.tokenization import TokenBatch
from pawl.domain.errors import ArtefactCorrupt
from pawl.ports import Floats


class OnnxEncoder(ParallelEncoder):
    """An `encoder/` folder on ONNX Runtime, CPU. Implements the port `Encoder`.

    The texts beside a text change its embedding by float32 rounding alone (below 1e-5).

    Args:
        folder: The folder, verified already.
        threads: Batches at a time; 0 means one for each core this process may use.
        digest: The folder's digest.

    Raises:
        ArtefactCorrupt: A file is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: Path, *, threads: int = 0, digest: str) -> None:
        super().__init__(folder, digest, threads)
        self._session = _open_session(folder / ONNX_FILE)
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        inputs = {given.name for given in self._session.get_inputs()}
        width = outputs.get("embedding", [None])[-1]  # a name where the exporter could not tell
        fits = width == self.spec.dimension or isinstance(width, str)
        if inputs != {"input_ids", "attention_mask"} or not fits:
            problem = f"it maps {sorted(inputs)} to {outputs}, expected an embedding of {self.spec.dimension} numbers"
            raise ArtefactCorrupt(path=folder / ONNX_FILE, problem=problem)

    def embed(self, batch: TokenBatch) -> Floats:
        """See `ParallelEncoder.embed`."""
        inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
        embeddings: Floats = self._session.run(["embedding"], inputs)[0]
        return embeddings


def _open_session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    # One thread a batch (ADR 0019): `ParallelEncoder` runs as many at a time as there are cores.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # 3 is errors, as the library numbers them
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises its own kinds, all direct children of Exception
        raise ArtefactCorrupt(path=path, problem=f"ONNX Runtime cannot load it: {error}") from error

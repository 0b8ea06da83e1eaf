"""The ONNX Runtime backend: what serves, and what the learner embeds with. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnxruntime as ort

from app.core.classifier.encoder_folder import ONNX_FILE
from app.core.classifier.folder_encoder import FolderEncoder
from app.core.classifier.tokenization import TokenBatch
from app.core.domain.errors import ArtefactCorrupt
from app.core.ports import Floats
from app.core.threads import thread_count


class OnnxEncoder(FolderEncoder):
    """An `encoder/` folder on ONNX Runtime, CPU. Implements the port `Encoder`; safe to call from threads.

    float32 runs batches of texts of similar length, each on all threads. int8 runs texts one by one, as many at a time
    as there are threads: its activations are rounded with one scale for a whole batch, so in a batch an embedding would
    depend on its neighbours; and one by one nothing is padded.

    Args:
        folder: The folder, verified already.
        threads: Threads of one forward pass; 0 means one for each core this process may use.
        digest: The folder's digest.

    Raises:
        ArtefactCorrupt: A file is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: Path, *, threads: int = 0, digest: str) -> None:
        super().__init__(folder, digest)
        threads, alone = thread_count(threads), self.spec.precision == "int8"
        self._session = _open_session(folder / ONNX_FILE, 1 if alone else threads)
        self._runners = ThreadPoolExecutor(threads, thread_name_prefix="pawl-encoder") if alone else None
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        inputs = {given.name for given in self._session.get_inputs()}
        if inputs != {"input_ids", "attention_mask"} or outputs.get("embedding", [None])[-1] != self.spec.dimension:
            problem = f"it maps {sorted(inputs)} to {outputs}, expected an embedding of {self.spec.dimension} numbers"
            raise ArtefactCorrupt(path=folder / ONNX_FILE, problem=problem)

    def encode(self, texts: Sequence[str]) -> Floats:
        """Embeddings z, shape (len(texts), d), float32, unit length, in the order of the texts.

        A text's embedding does not depend on the texts beside it, but for float32 rounding (below 1e-5).
        """
        z = np.empty((len(texts), self.spec.dimension), dtype=np.float32)

        def run(batch: TokenBatch) -> None:
            inputs = {"input_ids": batch.input_ids, "attention_mask": batch.attention_mask}
            z[batch.rows] = self._session.run(["embedding"], inputs)[0]

        if self._runners is None or len(texts) == 1:
            for batch in self.tokenizer.batches(texts):
                run(batch)
        else:
            for _ in self._runners.map(run, self.tokenizer.batches(texts, max_texts=1)):
                pass  # asks for the results, so that an error is raised here
        return z


def _open_session(path: Path, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    # Threads that spin while they wait take the core from the event loop and the learner: without it 160 texts/s one by
    # one on two busy cores, with it 76.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the library raises its own kinds, all direct children of Exception
        raise ArtefactCorrupt(path=path, problem=f"ONNX Runtime cannot load it: {error}") from error

"""The table of token vectors in int8: of a vocabulary of 250,000 it is most of the encoder, and is only looked up.

Each row has a scale of its own (its largest number is 127), so a rare token with small numbers is rounded no worse than
a common one with large numbers. It is a file beside the ONNX file, which the runtimes map into memory: only
the rows of tokens that occur are ever read. Only what serves has it; what is trained is float32.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from pawl.classifier.encoders.spec import TABLE_FILE

_LARGE_TABLE_BYTES = 2**27  # of float32: from this size on it would be most of an encoder, whatever the other weights
_STEPS = 127.0
_LEAST = 1e-12  # a row of zeros alone is not divided by zero


class RoundedTable(torch.nn.Module):
    """A table of vectors, each rounded to int8 with a scale of its own.

    Args:
        weight: Shape (tokens, d), float32.
    """

    table: torch.Tensor
    scale: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=_LEAST) / _STEPS
        self.register_buffer("table", (weight / scale).round().to(torch.int8))
        self.register_buffer("scale", scale)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """The vectors of token ids, shape (n, tokens, d), float32, from int64 ids of shape (n, tokens)."""
        # Two look-ups, then one product of what was looked up: the table as a whole is never made float32.
        rows = torch.nn.functional.embedding(input_ids, self.table).to(self.scale.dtype)
        return rows * torch.nn.functional.embedding(input_ids, self.scale)


def round_token_table(model: Any) -> bool:
    """Replaces a transformer's table of token vectors by a `RoundedTable` where it is large; returns whether it did.

    One that does more than look up (a scale of its own, say) is left as it is.
    """
    table = model.get_input_embeddings()
    if type(table) is not torch.nn.Embedding or table.weight.numel() * table.weight.element_size() < _LARGE_TABLE_BYTES:
        return False
    with torch.inference_mode():
        model.set_input_embeddings(RoundedTable(table.weight.detach()))
    return True


def move_table_out(path: Path) -> None:
    """Moves the rounded table out of an ONNX file, into `TABLE_FILE` beside it."""
    import onnx
    from onnx.external_data_helper import set_external_data

    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.INT8 and tensor.name.endswith(".table"):  # as `RoundedTable` calls it
            # From the start of the file: what is mapped has to begin with a page.
            path.with_name(TABLE_FILE).write_bytes(tensor.raw_data)
            set_external_data(tensor, TABLE_FILE, offset=0, length=len(tensor.raw_data))
            tensor.ClearField("raw_data")
    onnx.save(model, path)

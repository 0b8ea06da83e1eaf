"""An exported encoder with int8 weights: a quarter of the size, and twice as fast where the CPU multiplies int8.

Dynamic quantisation: weights are rounded once, each output channel with a scale of its own; activations at run time,
with one scale for each matrix. Where a text runs alone that scale is its own, so an embedding still does not depend on
the texts beside it. onnx and the graph optimiser are imported when a function is called: only exports need them.
"""

from __future__ import annotations

import logging
from pathlib import Path

from app.core.domain.errors import EncoderRejected


def quantize(path: Path, *, heads: int, hidden: int) -> None:
    """Fuses attention, GELU and layer norms of an ONNX file, rounds its weight matrices to int8, and replaces it.

    Args:
        path: The ONNX file of a transformer that was exported with eager attention (others are not fused: slower).
        heads: Attention heads of a layer.
        hidden: Width of a layer.

    Raises:
        EncoderRejected: ONNX Runtime cannot do it.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model

    fused, small = path.with_suffix(".fused"), path.with_suffix(".int8")
    logging.root.addFilter(_is_not_of_onnxruntime)  # which warns that one may preprocess, which the fusion above is
    try:
        given = onnx.load(path)  # a bad file ends here, not with a temporary folder of the optimiser's left open
        graph = optimize_model(given, model_type="bert", num_heads=heads, hidden_size=hidden, opt_level=0)
        graph.save_model_to_file(str(fused))
        quantize_dynamic(
            fused,
            small,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        small.replace(path)
    except Exception as error:  # both libraries raise kinds of their own, and bare RuntimeError and ValueError
        raise EncoderRejected(path=path, problem=f"it cannot be quantised to int8: {error}") from error
    finally:
        logging.root.removeFilter(_is_not_of_onnxruntime)
        for file in (fused, small):
            file.unlink(missing_ok=True)


def _is_not_of_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname

"""An exported encoder with int8 weights: a quarter of the size, and twice as fast where the CPU multiplies int8.

Dynamic quantisation: weights are rounded once, each output channel with a scale of its own; activations at run time,
with one scale for each matrix. Where a text runs alone that scale is its own, so an embedding still does not depend on
the texts beside it. Tokens differ in size, so each is scaled to the same largest value before a matrix and back behind
it (per-token quantisation, as in ZeroQuant, Yao et al. 2022), which leaves a third of the error for 4 % of the time.
onnx and the graph optimiser are imported when a function is called: only exports need them.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from pawl.domain.errors import EncoderRejected

_LEAST = 1e-12  # added to a token's largest value, so that one of zeros alone is not divided by zero


def quantize(path: Path, *, heads: int, hidden: int, tables: bool = True) -> None:
    """Fuses attention, GELU and layer norms of an ONNX file, rounds its weight matrices to int8, and replaces it.

    Args:
        path: The ONNX file of a transformer that was exported with eager attention (others are not fused: slower).
        heads: Attention heads of a layer.
        hidden: Width of a layer.
        tables: Whether to round the tables that are looked up, too.

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
        _scale_tokens(graph.model.graph)
        graph.save_model_to_file(str(fused))
        quantize_dynamic(
            fused,
            small,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=None if tables else ["MatMul", "Attention"],
            # Only products with weights: in those of two activations nothing can be rounded ahead.
            extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
        )
        small.replace(path)
    except Exception as error:  # both libraries raise kinds of their own, and bare RuntimeError and ValueError
        raise EncoderRejected(path=path, problem=f"it cannot be quantised to int8: {error}") from error
    finally:
        logging.root.removeFilter(_is_not_of_onnxruntime)
        for file in (fused, small):
            file.unlink(missing_ok=True)


def _scale_tokens(graph: Any) -> None:
    """Makes x W into (x / r) W r, r the largest |x| of each token, at every matrix but those of attention.

    Those stand inside one fused operator, behind a layer norm, which has made the tokens' sizes equal already.
    """
    from onnx import TensorProto, helper

    weights = {tensor.name for tensor in graph.initializer}
    graph.initializer.append(helper.make_tensor("least", TensorProto.FLOAT, [], [_LEAST]))
    # A new list, since a node must stand behind those whose output it takes.
    nodes = []
    for node in graph.node:
        if node.op_type != "MatMul" or node.input[1] not in weights:
            nodes.append(node)
            continue
        x, w, y, name = node.input[0], node.input[1], node.output[0], node.name
        nodes += [
            helper.make_node("Abs", [x], [f"{name}/abs"], f"{name}/Abs"),
            helper.make_node("ReduceMax", [f"{name}/abs"], [f"{name}/max"], f"{name}/ReduceMax", axes=[-1], keepdims=1),
            helper.make_node("Add", [f"{name}/max", "least"], [f"{name}/size"], f"{name}/Add"),
            helper.make_node("Div", [x, f"{name}/size"], [f"{name}/scaled"], f"{name}/Div"),
            helper.make_node("MatMul", [f"{name}/scaled", w], [f"{name}/product"], name),
            helper.make_node("Mul", [f"{name}/product", f"{name}/size"], [y], f"{name}/Mul"),
        ]
    del graph.node[:]
    graph.node.extend(nodes)


def _is_not_of_onnxruntime(record: logging.LogRecord) -> bool:
    return "onnxruntime" not in record.pathname

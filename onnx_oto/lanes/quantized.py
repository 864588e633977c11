"""Weights that are stored as small integers and computed with as floats: no channels are removed from them."""

from __future__ import annotations

from onnx import TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import element_count
from onnx_oto.model.view import Graph

SMALL = frozenset(
    {
        *(TensorProto.INT8, TensorProto.UINT8, TensorProto.INT4, TensorProto.UINT4),
        *(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E4M3FNUZ, TensorProto.FLOAT8E5M2),
        *(TensorProto.FLOAT8E5M2FNUZ, TensorProto.FLOAT4E2M1),
    }
)
"""Element types of quantized weights."""
_OPERATORS = frozenset(
    {"MatMulInteger", "ConvInteger", "DynamicQuantizeLinear", "MatMulNBits", "GatherBlockQuantized"}
)


def is_quantized(node: Node) -> bool:
    """Return whether a node makes, reads or computes with quantized values."""
    return node.op in _OPERATORS or "quantize" in node.op.lower() or node.op.startswith("QLinear")


def is_quantized_weight(graph: Graph, name: str) -> bool:
    """Return whether a tensor is a matrix (or larger) that the model stores as small integers."""
    tensor = graph.initializers.get(name)
    if tensor is None or tensor.data_type not in SMALL:
        return False
    longer = [size for size in tensor.dims if size > 1]
    return len(longer) > 1


def quantized_weights(graph: Graph) -> list[str]:
    """Return the quantized weights of a model, the largest first."""
    found = [name for name in graph.initializers if is_quantized_weight(graph, name)]
    return sorted(found, key=lambda name: -element_count(graph.initializers[name]))

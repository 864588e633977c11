"""Weights that are stored as small integers and computed with as floats.

Channels are removed from those that a DequantizeLinear reads straight away (`Code`, `is_sliceable`), from no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
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


_PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True, eq=False)
class Code:
    """What the integers of a weight mean: (q - zero) * scale. axis: of scales and zero points, None for one of each."""

    scale: npt.NDArray[np.float64]
    zero: npt.NDArray[np.int64]
    axis: int | None

    def zeros(self, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the integers that mean zero, in the type and shape of `value`."""
        return np.broadcast_to(self._spread(self.zero, value.ndim), value.shape).astype(value.dtype)

    def floats(self, value: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Return what the integers mean, float32."""
        wide = (value.astype(np.int64) - self._spread(self.zero, value.ndim)).astype(np.float64)
        result: npt.NDArray[np.float32] = (wide * self._spread(self.scale, value.ndim)).astype(np.float32)
        return result

    def has_zero_of(self, other: Code) -> bool:
        """Return whether the same integers mean zero."""
        if (self.zero == self.zero[0]).all() and (other.zero == self.zero[0]).all():
            return True
        return self.axis == other.axis and np.array_equal(self.zero, other.zero)

    def _spread(self, vector: npt.NDArray[Any], rank: int) -> npt.NDArray[Any]:
        flat = vector.reshape(-1)
        if self.axis is None or flat.size == 1:
            return flat[:1].reshape((1,) * rank)
        return flat.reshape([-1 if axis == self.axis else 1 for axis in range(rank)])


def is_sliceable(graph: Graph, name: str) -> bool:
    """Return whether all that reads stored integers reads them as codes of floats, or as zero points of such."""
    readers = graph.consumers.get(name, [])
    return (
        bool(readers)
        and name not in graph.captured
        and name not in graph.outputs
        and all(
            not node.domain and ((at == 2 and node.op in _PAIR) or (at == 0 and node.op == _PAIR[1]))
            for node, at in readers
        )
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

"""Weights that are stored as small integers and computed with as floats.

Channels are removed from those that a DequantizeLinear or, of bytes, a Cast reads straight away (`Code`,
`is_sliceable`), from no others.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import TensorProto, helper

from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import FLOATS, element_count
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


_BYTES = frozenset({TensorProto.INT8, TensorProto.UINT8})
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
    """Return whether all that reads stored integers reads them as codes of floats, or as zero points of such.

    A weight of bytes that is cast to floats is one, too: a scale is multiplied with it afterwards. Other integers that
    are cast are numbers of their own (positions, sizes).
    """
    if graph.initializers[name].data_type == TensorProto.INT64:
        return False  # codes and zero points are never that long
    is_bytes = graph.initializers[name].data_type in _BYTES and is_quantized_weight(graph, name)
    readers = graph.consumers.get(name, [])
    return (
        bool(readers)
        and name not in graph.captured
        and name not in graph.outputs
        and all(
            not node.domain
            and (
                (at == 2 and node.op in _PAIR)
                or (at == 0 and node.op == _PAIR[1])
                or (is_bytes and node.op == "Cast" and graph.dtypes.get(node.outputs[0]) in FLOATS)
            )
            for node, at in readers
        )
    )


def code_of_cast(graph: Graph, node: Node) -> Code:
    """Return what bytes mean that a Cast makes floats of: less the number that is subtracted, times the constant.

    Where nothing follows but other operators, or constants along several axes, they stand for themselves.
    """
    shape, name = graph.shape(node.outputs[0]) or (), node.outputs[0]
    zero, scale = np.zeros(1, np.int64), np.ones(1)
    axis: int | None = None
    shift, after = _constant_behind(graph, name, "Sub")
    if (
        shift is not None
        and shift.size == 1
        and _is_byte(float(shift.reshape(-1)[0]), graph.dtypes[node.inputs[0]])
    ):
        zero, name = shift.reshape(-1).astype(np.int64), after
    factor, _ = _constant_behind(graph, name, "Mul")
    if factor is not None and factor.ndim <= len(shape):
        wide = [i + len(shape) - factor.ndim for i, size in enumerate(factor.shape) if size > 1]
        if len(wide) <= 1:
            scale, axis = factor.reshape(-1).astype(np.float64), wide[0] if wide else None
    return Code(scale, zero, axis)


def _is_byte(value: float, dtype: int) -> bool:
    """Return whether a number is one of those that a type of bytes has."""
    kind = np.iinfo(helper.tensor_dtype_to_np_dtype(dtype))
    return value.is_integer() and kind.min <= value <= kind.max


def _constant_behind(graph: Graph, name: str, op: str) -> tuple[npt.NDArray[Any] | None, str]:
    """Return the constant in the only reader of a tensor, if that is an `op` of it, and what the reader makes."""
    readers = graph.consumers.get(name, [])
    if len(readers) != 1 or readers[0][0].op != op or readers[0][0].domain or name in graph.outputs:
        return None, ""
    reader, at = readers[0]
    if op == "Sub" and at != 0:
        return None, ""
    return graph.constant(reader.inputs[1 - at]), reader.outputs[0]


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

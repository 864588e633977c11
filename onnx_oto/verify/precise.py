"""A model whose sums run in float64 where onnxruntime can: what its own float32 results are off by.

Operators that onnxruntime has no float64 kernel for (convolutions, some activations) stay in float32, between casts.
Norms without such a kernel are written out, as their definition says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_oto.model import Graph, Node
from onnx_oto.model.node import read_nodes
from onnx_oto.model.tensors import from_array

SUMS = frozenset(
    {
        "BatchNormalization", "CumSum", "Einsum", "Gemm", "GlobalAveragePool", "GroupNormalization",
        "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization", "MatMul", "ReduceL1",
        "ReduceLogSumExp", "ReduceMean", "ReduceSum", "ReduceSumSquare", "Softmax",
    }
)  # fmt: skip
"""Operators that add many terms."""
IN_DOUBLE = SUMS | {
    "Abs", "Add", "Concat", "Div", "Exp", "Expand", "Flatten", "Gather", "Identity", "Log", "Max", "Min", "Mul",
    "Neg", "Pad", "Pow", "Reciprocal", "ReduceMax", "ReduceMin", "Relu", "Reshape", "Sigmoid", "Slice", "Split",
    "Sqrt", "Squeeze", "Sub", "Sum", "Tanh", "Tile", "Transpose", "Unsqueeze", "Where",
}  # fmt: skip
"""Operators of the standard domain with a float64 kernel in onnxruntime 1.19, or written out in such."""
_AXES_AS_INPUT = 18


def precise(model: ModelProto, view: Graph, ops: frozenset[str] = IN_DOUBLE) -> ModelProto:
    """Return the model (in normal form) with `ops` on float64; every name keeps its type.

    view: of this model, or of one that it is a part of.
    """
    result = ModelProto()
    result.CopyFrom(model)
    del result.graph.node[:]
    writer = _Writer(result, view)
    for node, proto in zip(read_nodes(model), model.graph.node, strict=True):
        if node.op in ops and _is_plain(node, view):
            writer.widen(node, proto)
        else:
            result.graph.node.append(proto)
    return result


def _is_plain(node: Node, view: Graph) -> bool:
    """Say whether a node has one output, or several of float32, and runs as in inference."""
    floats = [view.dtypes.get(name) == TensorProto.FLOAT for name in node.outputs if name]
    if node.domain or not floats or not all(floats) or node.attrs.get("training_mode"):
        return False
    if node.op != "Split" and len(floats) > 1:
        return False
    return node.op not in WRITTEN_OUT or view.shape(node.inputs[0]) is not None


class _Writer:
    """Appends nodes to the graph of `model`; knows which tensors exist in float64."""

    def __init__(self, model: ModelProto, view: Graph) -> None:
        self.graph = model.graph
        self.view = view
        self._wide: dict[str, str] = {}

    def widen(self, node: Node, proto: NodeProto) -> None:
        """Append a node on float64, and its outputs in float32 under their names."""
        inputs = [self._double(name) for name in node.inputs]
        outputs = [f"{name}__double" if name else "" for name in node.outputs]
        if node.op in WRITTEN_OUT:
            WRITTEN_OUT[node.op](self, node, inputs, outputs[0])
        else:
            wide = self.graph.node.add()
            wide.CopyFrom(proto)
            wide.input[:], wide.output[:] = inputs, outputs
        for name, source in zip(node.outputs, outputs, strict=True):
            if name:
                self._wide[name] = source
                self.add("Cast", [source], name, to=TensorProto.FLOAT)

    def add(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append a node and return the name of its output."""
        self.graph.node.append(helper.make_node(op, inputs, [output], f"{output}__{op}", **attributes))
        return output

    def constant(self, name: str, value: np.ndarray) -> str:
        """Add an initializer and return its name."""
        self.graph.initializer.append(from_array(value, name))
        return name

    def mean(self, source: str, axes: list[int], output: str) -> str:
        """Append a mean over axes that stay, in the form of the model's operator set."""
        if self.view.opsets.get("", 0) < _AXES_AS_INPUT:
            return self.add("ReduceMean", [source], output, axes=axes, keepdims=1)
        return self.add(
            "ReduceMean", [source, self.constant(f"{output}__axes", np.array(axes))], output, keepdims=1
        )

    def _double(self, name: str) -> str:
        if not name or self.view.dtypes.get(name) != TensorProto.FLOAT:
            return name
        if name not in self._wide:
            self._wide[name] = f"{name}__double"
            value = self.view.constant(name)
            if value is not None:
                self.constant(self._wide[name], value.astype(np.float64))
            else:
                self.add("Cast", [name], self._wide[name], to=TensorProto.DOUBLE)
        return self._wide[name]


def _spatial(writer: _Writer, node: Node) -> list[int]:
    return list(range(2, len(writer.view.shape(node.inputs[0]) or ())))


def _global_average(writer: _Writer, node: Node, inputs: Sequence[str], output: str) -> None:
    writer.mean(inputs[0], _spatial(writer, node), output)


def _instance_norm(writer: _Writer, node: Node, inputs: Sequence[str], output: str) -> None:
    """(x - mean) / sqrt(var + epsilon) * scale + bias, scale and bias per channel."""
    axes = _spatial(writer, node)
    mean = writer.mean(inputs[0], axes, f"{output}_mean")
    apart = writer.add("Sub", [inputs[0], mean], f"{output}_apart")
    variance = writer.mean(writer.add("Mul", [apart, apart], f"{output}_square"), axes, f"{output}_variance")
    epsilon = writer.constant(f"{output}_epsilon", np.array(node.attrs.get("epsilon", 1e-5), np.float64))
    root = writer.add("Sqrt", [writer.add("Add", [variance, epsilon], f"{output}_sum")], f"{output}_root")
    result = writer.add("Div", [apart, root], f"{output}_normal")
    shape = writer.constant(f"{output}_shape", np.array([1, -1, *(1 for _ in axes)]))
    scale, bias = (
        writer.add("Reshape", [inputs[i], shape], f"{output}_{what}")
        for i, what in ((1, "scale"), (2, "bias"))
    )
    writer.add("Add", [writer.add("Mul", [result, scale], f"{output}_scaled"), bias], output)


WRITTEN_OUT: dict[str, Callable[[_Writer, Node, Sequence[str], str], None]] = {
    "GlobalAveragePool": _global_average,
    "InstanceNormalization": _instance_norm,
}

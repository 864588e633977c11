"""A model whose sums run in float64 where onnxruntime can: what its own float32 results are off by.

Operators that onnxruntime has no float64 kernel for (pools, some activations) stay in float32, between casts.
Convolutions and norms without such a kernel are written out, as their definition says.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from onnx_oto.model import Graph, Node
from onnx_oto.model.graph.node import read_nodes
from onnx_oto.model.graph.tensors import from_array

SUMS = frozenset(
    {
        "BatchNormalization", "Conv", "CumSum", "Einsum", "Gemm", "GlobalAveragePool", "GroupNormalization",
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
_SLICE_BY_INPUTS = 11
MOST_TAPS = 128
"""Of the kernel of a convolution that is written out: one product each."""


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
    if node.op not in WRITTEN_OUT or view.shape(node.inputs[0]) is None:
        return node.op not in WRITTEN_OUT
    return node.op != "Conv" or _is_plain_conv(node, view)


def _is_plain_conv(node: Node, view: Graph) -> bool:
    weight = view.constant(node.inputs[1])
    if weight is None or view.opsets.get("", 0) < _SLICE_BY_INPUTS:
        return False
    return node.attrs.get("auto_pad", "NOTSET") == "NOTSET" and int(np.prod(weight.shape[2:])) <= MOST_TAPS


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


def _conv(writer: _Writer, node: Node, inputs: Sequence[str], output: str) -> None:
    """The sum over the places t of the kernel of w[:, :, t] times x moved by t, in each group."""
    weight = np.asarray(writer.view.constant(node.inputs[1]), np.float64)
    count, width, *kernel = weight.shape
    groups, axes = int(node.attrs.get("group", 1)), len(kernel)
    strides, dilations = (node.attrs.get(name) or [1] * axes for name in ("strides", "dilations"))
    source = inputs[0]
    if any(pads := node.attrs.get("pads") or []):
        around = np.array([0, 0, *pads[:axes], 0, 0, *pads[axes:]])
        source = writer.add("Pad", [source, writer.constant(f"{output}_pads", around)], f"{output}_padded")
    names = {
        "axes": np.arange(2, 2 + axes),
        "steps": np.array(strides),
        "flat": np.array([0, groups, width, -1]),
    }
    fixed = {name: writer.constant(f"{output}_{name}", value) for name, value in names.items()}
    total = moved = ""
    for index, place in enumerate(np.ndindex(*kernel)):
        tag = f"{output}_{index}"
        begin = np.multiply(place, dilations)
        rest = np.multiply(np.subtract(kernel, place) - 1, dilations)
        end = np.where(rest > 0, -rest, np.iinfo(np.int64).max)
        limits = [writer.constant(f"{tag}_begin", begin), writer.constant(f"{tag}_end", end)]
        moved = writer.add("Slice", [source, *limits, fixed["axes"], fixed["steps"]], f"{tag}_moved")
        matrix = weight[(slice(None), slice(None), *place)].reshape(groups, count // groups, width)
        flat = writer.add("Reshape", [moved, fixed["flat"]], f"{tag}_flat")
        product = writer.add("MatMul", [writer.constant(f"{tag}_matrix", matrix), flat], f"{tag}_product")
        total = product if not total else writer.add("Add", [total, product], f"{tag}_total")
    numbers = {
        "0": np.array([0]),
        "2": np.array([2]),
        "all": np.array([2 + axes]),
        "lanes": np.array([count]),
    }
    at = {name: writer.constant(f"{output}_at_{name}", value) for name, value in numbers.items()}
    size = writer.add("Shape", [moved], f"{output}_size")
    spatial = writer.add("Slice", [size, at["2"], at["all"], at["0"]], f"{output}_spatial")
    shape = writer.add("Concat", [at["0"], at["lanes"], spatial], f"{output}_shape", axis=0)
    bias = inputs[2] if len(inputs) > 2 else ""
    result = writer.add("Reshape", [total, shape], f"{output}_sum" if bias else output)
    if bias:
        column = writer.constant(f"{output}_column", np.array([-1, *(1 for _ in kernel)]))
        writer.add("Add", [result, writer.add("Reshape", [bias, column], f"{output}_bias")], output)


WRITTEN_OUT: dict[str, Callable[[_Writer, Node, Sequence[str], str], None]] = {
    "Conv": _conv,
    "GlobalAveragePool": _global_average,
    "InstanceNormalization": _instance_norm,
}

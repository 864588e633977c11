"""Gradients as single nodes, which functions of ours can take over, and what they are in operators of the standard.

The nodes are those that ONNX Runtime's training build has kernels for (`com.microsoft`: ConvGrad, MaxPoolGrad,
ReluGrad, BatchNormInternal, BatchNormalizationGrad), so that the same rewrites serve both backends (`functions.py`).
Those that are left are written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from onnx_oto.gradients.backends.plain.back import Back, Known, Once, Shape
from onnx_oto.gradients.backends.plain.convolution import conv
from onnx_oto.gradients.backends.plain.elementwise import relu
from onnx_oto.gradients.backends.plain.normalization import (
    Moments,
    batch_moments,
    batch_normalization,
    batch_statistics,
)
from onnx_oto.gradients.backends.plain.pooling import max_pool
from onnx_oto.gradients.backends.plain.table import Parts
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.model.graph.node import read_node
from onnx_oto.model.graph.order import drop_unneeded
from onnx_oto.model.graph.writer import GraphWriter

_DOMAIN = "com.microsoft"
_PREFIX = "onnx_oto.written"


def gradient_node(node: Back, dy: str) -> Parts | None:
    """Return the gradients of what a node reads, from a single node; None where there is none for it."""
    make = _NODES.get(node.op)
    return make(node, dy) if make is not None and _is_float(node) else None


def forward_node(node: Back) -> Sequence[str]:
    """Return what takes the place of a node's outputs, and more that its gradient keeps; see `table.Entry.form`."""
    if node.op != "BatchNormalization" or not _is_float(node) or not node.attrs.get("training_mode", 0):
        return ()
    x, channels = node.inputs[0], node.shape(node.inputs[1])
    settings = {
        name: node.attrs.get(name, default) for name, default in (("epsilon", 1e-5), ("momentum", 0.9))
    }
    shapes = [node.shape(x), *[channels] * 4]
    made = node.kernel("BatchNormInternal", node.inputs, shapes, **settings, training_mode=1)
    return [*made[: len(node.outputs)], *made[3:]]


def _is_float(node: Back) -> bool:
    """Return whether all sizes are known, and elements are float32."""
    names = [*filter(None, node.inputs), node.outputs[0]]
    return node.knows(*names) and node.known.dtypes[node.outputs[0]] == TensorProto.FLOAT


def _conv_node(node: Back, dy: str) -> Parts:
    x, w, *bias = node.inputs
    settings = {
        n: node.attrs[n] for n in ("dilations", "group", "kernel_shape", "pads", "strides") if n in node.attrs
    }
    settings.setdefault("kernel_shape", node.shape(w)[2:])
    shapes = [node.shape(x), node.shape(w), *(node.shape(name) for name in filter(None, bias))]
    return node.kernel("ConvGrad", [dy, x, w], shapes, **settings)


def _pool_node(node: Back, dy: str) -> Parts:
    return node.kernel("MaxPoolGrad", [dy, node.outputs[1]], [node.shape(node.inputs[0])])


def _relu_node(node: Back, dy: str) -> Parts:
    return node.kernel("ReluGrad", [dy, node.outputs[0]], [node.shape(node.outputs[0])])


def _norm_node(node: Back, dy: str) -> Parts | None:
    if not node.attrs.get("training_mode", 0):
        return None
    x, scale = node.inputs[:2]
    mean, inverse = node.kept
    shapes = [node.shape(x), node.shape(scale), node.shape(scale)]
    return node.kernel("BatchNormalizationGrad", [dy, x, scale, mean, inverse], shapes)


_NODES: Mapping[str, Callable[[Back, str], Parts | None]] = {
    "Conv": _conv_node,
    "MaxPool": _pool_node,
    "Relu": _relu_node,
    "BatchNormalization": _norm_node,
}


def is_kernel(node: onnx.NodeProto) -> bool:
    """Return whether a node is one of these."""
    return node.domain == _DOMAIN and node.op_type in _WRITTEN


def shapes_with_kernels(model: onnx.ModelProto, made: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the static shapes of a graph. made: those of what these nodes make, which inference does not know."""
    known = onnx.ModelProto()
    known.CopyFrom(model)
    kernels = [node for node in model.graph.node if is_kernel(node)]
    kept = [node for node in model.graph.node if not is_kernel(node)]
    del known.graph.node[:]
    known.graph.node.extend(kept)
    known.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, made[name])
        for node in kernels
        for name in node.output
        if name
    )
    return {name: kind.static for name, kind in types(known).items() if kind.static is not None}


def leave_out_unread(graph: onnx.GraphProto) -> None:
    """Drop, in place, what nobody needs; outputs of these nodes that nobody reads have no name then."""
    drop_unneeded(graph)
    read = {name for node in graph.node for name in node.input} | {value.name for value in graph.output}
    for node in graph.node:
        if is_kernel(node):
            node.output[:] = [name if name in read else "" for name in node.output]


def write_out(model: onnx.ModelProto, shapes: Mapping[str, Shape], opset: int) -> None:
    """Write these nodes, in place, in operators of the standard, for the CPU. shapes: of what they read."""
    graph = model.graph
    if not any(map(is_kernel, graph.node)):
        return
    known = Known(
        shapes=shapes,
        ranks={name: len(shape) for name, shape in shapes.items()},
        dtypes=dict.fromkeys(shapes, TensorProto.FLOAT),
        constants={},
        opset=opset,
    )
    written = _Written(graph, known)
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        if not is_kernel(node):
            nodes.append(node)
            continue
        made = _WRITTEN[node.op_type](written, node)
        nodes += written.writer.nodes
        written.writer.nodes = []
        pairs = zip(made, node.output, strict=False)
        nodes += [helper.make_node("Identity", [a], [b], name=b) for a, b in pairs if a and b]
    del graph.node[:]
    graph.node.extend(nodes)
    written.writer.write_to(graph)
    drop_unneeded(graph)


class _Written:
    """Gradients of nodes that are no longer there, as the table has them."""

    def __init__(self, graph: onnx.GraphProto, known: Known) -> None:
        self.known = known
        self.writer = GraphWriter(known.opset, _PREFIX)
        self._once = Once(self.writer)
        self._made_by = {name: node for node in graph.node for name in node.output if name}
        self._measured: dict[
            str, tuple[float, Moments]
        ] = {}  # by norms that are written out, and their epsilon

    def back(self, node: onnx.NodeProto, kept: Sequence[str] = ()) -> Back:
        return Back(read_node(node, 0, {}), self.known, self._once, kept=kept)

    def conv_grad(self, node: onnx.NodeProto) -> Parts:
        dy, x, w = node.input
        forth = helper.make_node("Conv", [x, w], [dy])  # what it made has the shape of dy
        forth.attribute.extend(node.attribute)
        return conv(self.back(forth), dy)

    def max_pool_grad(self, node: onnx.NodeProto) -> Parts:
        dy, index = node.input
        return max_pool(self.back(self._made_by[index]), dy)

    def relu_grad(self, node: onnx.NodeProto) -> Parts:
        dy, y = node.input
        return relu(self.back(helper.make_node("Relu", [y], [y])), dy)

    def norm(self, node: onnx.NodeProto) -> Parts:
        back = self.back(node)
        found = batch_moments(back)
        if len(node.output) > 3 and node.output[3]:
            self._measured[node.output[3]] = back.attrs["epsilon"], found
        return [*batch_statistics(back, found), found.mean, found.inverse]

    def norm_grad(self, node: onnx.NodeProto) -> Parts:
        dy, x, scale, mean, inverse = node.input
        epsilon, found = self._measured.get(mean, (0.0, None))
        forth = helper.make_node("BatchNormalization", [x, scale], [dy], epsilon=epsilon)
        kept = self._given(self.back(forth), mean, inverse) if found is None else found[1:]
        return batch_normalization(self.back(forth, kept), dy)

    def _given(self, node: Back, mean: str, inverse: str) -> Sequence[str]:
        """Return what the gradient of a norm keeps, from what others measured; its variance has epsilon in it."""
        x = node.inputs[0]
        along = node.reshape(mean, [1, -1, *[1] * (node.rank(x) - 2)])
        return node.emit("Sub", x, along), node.emit("Reciprocal", node.mul(inverse, inverse)), inverse


_WRITTEN: Mapping[str, Callable[[_Written, onnx.NodeProto], Parts]] = {
    "ConvGrad": _Written.conv_grad,
    "MaxPoolGrad": _Written.max_pool_grad,
    "ReluGrad": _Written.relu_grad,
    "BatchNormInternal": _Written.norm,
    "BatchNormalizationGrad": _Written.norm_grad,
}

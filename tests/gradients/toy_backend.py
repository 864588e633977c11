"""A second backend, for a handful of operators: it writes gradients as plain ONNX that any runtime computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.static_types import types
from onnx_oto.runtime.devices import Device


class Writer:
    """The gradient graph as it is written: nodes, constants, and the gradients that have arrived at each tensor."""

    def __init__(self, graph: onnx.ModelProto) -> None:
        self.model = onnx.ModelProto()
        self.model.CopyFrom(graph)
        self.shapes = {name: kind.static or () for name, kind in types(graph).items()}
        self.arrived: dict[str, list[str]] = {}

    def emit(self, op: str, *inputs: str, **attributes: Any) -> str:
        name = f"toy.{len(self.model.graph.node)}"
        self.model.graph.node.append(helper.make_node(op, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"toy.constant.{len(self.model.graph.initializer)}"
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def gradient(self, name: str) -> str:
        """Return the sum of what has arrived."""
        parts = self.arrived[name]
        return parts[0] if len(parts) == 1 else self.emit("Sum", *parts)

    def give(self, name: str, gradient: str, shape: Sequence[int]) -> None:
        """Let a gradient of that shape arrive at a tensor, summed over the axes that were broadcast."""
        own = self.shapes[name]
        lead = len(shape) - len(own)
        axes = [*range(lead), *(i + lead for i, size in enumerate(own) if size == 1 and shape[i + lead] > 1)]
        if axes:
            gradient = self.emit("ReduceSum", gradient, self.constant(axes, np.int64), keepdims=1)
            gradient = self.emit("Reshape", gradient, self.constant(own, np.int64))
        self.arrived.setdefault(name, []).append(gradient)


Rule = Callable[[Writer, onnx.NodeProto, str], None]


def _matmul(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    """y = a b: da = dy b^T, db = a^T dy."""
    a, b = node.input
    w.give(a, w.emit("MatMul", dy, w.emit("Transpose", b, perm=[1, 0])), w.shapes[a])
    w.give(b, w.emit("MatMul", w.emit("Transpose", a, perm=[1, 0]), dy), w.shapes[b])


def _add(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    for name in node.input:
        w.give(name, dy, w.shapes[node.output[0]])


def _sub(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    a, b = node.input
    w.give(a, dy, w.shapes[node.output[0]])
    w.give(b, w.emit("Neg", dy), w.shapes[node.output[0]])


def _mul(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    a, b = node.input
    w.give(a, w.emit("Mul", dy, b), w.shapes[node.output[0]])
    w.give(b, w.emit("Mul", dy, a), w.shapes[node.output[0]])


def _relu(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    mask = w.emit("Cast", w.emit("Greater", node.input[0], w.constant(0.0)), to=TensorProto.FLOAT)
    w.give(node.input[0], w.emit("Mul", dy, mask), w.shapes[node.input[0]])


def _reduce_sum(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    """Over all axes, which is how losses use it."""
    shape = w.shapes[node.input[0]]
    w.give(node.input[0], w.emit("Expand", dy, w.constant(shape, np.int64)), shape)


def _identity(w: Writer, node: onnx.NodeProto, dy: str) -> None:
    w.give(node.input[0], dy, w.shapes[node.input[0]])


RULES: dict[str, Rule] = {
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Relu": _relu,
    "ReduceSum": _reduce_sum,
    "Identity": _identity,
}


class Toy:
    """A backend (see `gradients.backends.Backend`)."""

    name = "toy"
    built = 0

    def on(self, device: Device) -> Toy:
        return self

    def why_not(self) -> str | None:
        return None

    def covers(self, node: onnx.NodeProto, facts: Facts) -> str | None:
        if node.op_type not in RULES:
            return f"the toy has no gradient of {node.op_type}"
        ranks = {len(facts.shapes.get(name, ())) for name in node.input}
        return "the toy multiplies matrices alone" if node.op_type == "MatMul" and ranks != {2} else None

    def joins_statistics(self) -> bool:
        return False

    def uses_threads(self) -> bool:
        return False

    def differentiate(
        self,
        graph: onnx.ModelProto,
        wanted: Sequence[str],
        *,
        joint: bool = False,
        scale: float = 1.0,
        even: bool = True,
        adding: bool = False,
        samples: int = 0,
        again: bool = False,
    ) -> onnx.ModelProto:
        Toy.built += 1
        w = Writer(graph)
        w.arrived[graph.graph.output[0].name] = [w.constant(1.0)]
        for node in reversed(graph.graph.node):
            if node.output[0] in w.arrived:
                RULES[node.op_type](w, node, w.gradient(node.output[0]))
        for name in wanted:
            w.model.graph.node.append(helper.make_node("Identity", [w.gradient(name)], [f"{name}_grad"]))
            kind = helper.make_tensor_value_info(f"{name}_grad", TensorProto.FLOAT, w.shapes[name])
            w.model.graph.output.append(kind)
        return w.model

"""Parts of a gradient graph that compute with stacked tensors, by compiled functions of ours.

A tensor [N, C, H, W] of N samples lies there as [C, H, W, N] (`runtime/stacked.py`), and the runtime is told that it is
[1, C, H, W * N]: operators that treat all places of a channel alike (norms over a batch, elementwise ones, Concat of
channels) need not know. Convolutions, their gradients and MaxPool call functions of ours. Where a part begins and ends
tensors change their order; a part is stacked if that takes less than it saves.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.calling import call, let_call
from onnx_oto.gradients.backends.stacked_plan import Plan, Shape, Shapes, Sizes, attributes_of
from onnx_oto.gradients.backends.stacked_tables import Tables, Windows, backward, forward, spread
from onnx_oto.gradients.session.prepared import Order
from onnx_oto.runtime.joining import (
    CONVOLVE,
    POOL,
    ROOM,
    ROOM_WORDS,
    SETTINGS,
    UNPOOL,
    WANTED,
    WEIGHTS,
)


def stack(
    model: onnx.ModelProto, shapes: Shapes, weights: Collection[str], by: Sizes, *, written: bool = True
) -> dict[str, Shape]:
    """Rewrite, in place, what is faster stacked; return `shapes` with those of the tensors that are new.

    weights: inputs that can be had in another order (`session/prepared.py`), and whose gradients are outputs.
    written: whether these are written where they are wanted.
    """
    chosen = Plan(model.graph, shapes, weights, by).chosen()
    return rewrite(model, shapes, weights, by, chosen, written=written) if chosen else dict(shapes)


def rewrite(
    model: onnx.ModelProto,
    shapes: Shapes,
    weights: Collection[str],
    by: Sizes,
    chosen: Collection[int],
    *,
    written: bool = True,
) -> dict[str, Shape]:
    """Do what `stack` does to the chosen nodes, by their places in the graph."""
    rewritten = _Rewritten(Plan(model.graph, shapes, weights, by), written)
    for index, node in enumerate(model.graph.node):
        if index in chosen:
            rewritten.stacked(node)
        else:
            rewritten.plain(node)
    rewritten.finish(model)
    return {**shapes, **rewritten.shapes}


def _is_partial(node: onnx.NodeProto) -> bool:
    """Return whether a Shape tells some sizes only."""
    settings = attributes_of(node)
    return bool(settings.get("start", 0)) or "end" in settings


@dataclass
class _Rewritten:
    """The nodes of the faster graph as they are collected."""

    plan: Plan
    writes: bool
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    shapes: dict[str, Shape] = field(default_factory=dict)
    inputs: dict[str, Shape] = field(default_factory=dict)
    initializers: dict[str, np.ndarray] = field(default_factory=dict)
    values: list[onnx.ValueInfoProto] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    in_order: set[str] = field(default_factory=set)

    # From one order to the other

    def stacked_shape(self, name: str) -> Shape:
        samples, channels, height, width = self.plan.shape(name) or ()
        return 1, channels, height, width * samples

    def name(self, name: str) -> str:
        """Return the name of a tensor when it is stacked, whose shape is noted."""
        stacked = f"{name}.stacked"
        self.shapes[stacked] = self.stacked_shape(name)
        return stacked

    def read(self, name: str) -> str:
        """Return a tensor stacked, for which it may have to change its order."""
        if f"{name}.stacked" not in self.shapes:
            samples, *rest = self.plan.shape(name) or ()
            self._move(name, self.name(name), [samples, math.prod(rest)], self.stacked_shape(name))
            self.in_order.add(name)
        return f"{name}.stacked"

    def unstack(self, name: str) -> None:
        """Let a tensor that is stacked have its own order too."""
        if f"{name}.stacked" in self.shapes and name not in self.in_order:
            shape = self.plan.shape(name) or ()
            self._move(f"{name}.stacked", name, [math.prod(shape[1:]), shape[0]], shape)
            self.in_order.add(name)

    def _move(self, source: str, target: str, flat: list[int], shape: Shape) -> None:
        for step, op, value in (
            ("flat", "Reshape", flat),
            ("turned", "Transpose", None),
            ("", "Reshape", list(shape)),
        ):
            made = f"{target}.{step}" if step else target
            inputs = [source] if value is None else [source, self.constant(f"{made}.shape", np.array(value))]
            settings: dict[str, Any] = {"perm": [1, 0]} if value is None else {}
            self.nodes.append(helper.make_node(op, inputs, [made], name=f"{made}.moved", **settings))
            source = made

    def constant(self, name: str, value: Any) -> str:
        self.initializers[name] = np.asarray(value)
        return name

    # Nodes

    def plain(self, node: onnx.NodeProto) -> None:
        """Take a node as it is; what it reads must lie in its own order."""
        if node.op_type == "Shape" and f"{node.input[0]}.stacked" in self.shapes and not _is_partial(node):
            self.constant(node.output[0], np.array(self.plan.shape(node.input[0])))
            return
        for name in node.input:
            self.unstack(name)
        self.nodes.append(node)

    def stacked(self, node: onnx.NodeProto) -> None:
        own = {
            "Conv": self._conv,
            "ConvGrad": self._conv_grad,
            "MaxPool": self._pool,
            "MaxPoolGrad": self._unpool,
        }.get(node.op_type)
        if own is not None:
            own(node)
            return
        linked = set(self.plan.links_of(node))
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self.read(name) if name in linked else name for name in node.input]
        copy.output[:] = [self.name(name) if name in linked else name for name in node.output]
        self.nodes.append(copy)

    def call(
        self,
        function: str,
        settings: list[int],
        inputs: list[str],
        *outputs: str,
        kind: int = TensorProto.FLOAT,
    ) -> None:
        """Emit a node that calls a function; outputs: of `shapes`. kind: of the last one."""
        name = outputs[0]
        told = self.constant(f"{name}.settings", np.array([*settings, *[0] * (SETTINGS - len(settings))]))
        given = [ROOM, told, *inputs]
        self.nodes.append(call(function, name, given, list(outputs)))
        kinds = [TensorProto.FLOAT] * (len(outputs) - 1) + [kind]
        self.values += [
            helper.make_tensor_value_info(output, kind, self.shapes[output])
            for output, kind in zip(outputs, kinds, strict=True)
        ]

    def _tables(self, tables: Tables, name: str) -> list[str]:
        return [
            self.constant(f"{name}.{part}", value) for part, value in zip(tables._fields, tables, strict=True)
        ]

    def _bytes(self, name: str) -> int:
        """Return the bytes of a channel."""
        _, _, height, width = self.stacked_shape(name)
        return 4 * height * width

    def _convolve(
        self, source: str, target: str, weight: str, tables: Tables, turned: bool, bias: str
    ) -> None:
        shape, by = self.plan.shapes[weight], self.plan.by
        made, read = (shape[1], shape[0]) if turned else shape[:2]
        order = Order(1, turned=turned, tile=by.width(made))
        weights = order.input(weight)
        self.inputs[weights] = order.tiled(shape)
        entries = self._tables(tables, target)
        nothing = self.constant("onnx_oto.stacked.zeros", np.zeros(4096, np.float32))
        if not bias and made > 4096:
            bias = self.constant(f"onnx_oto.stacked.zeros.{made}", np.zeros(made, np.float32))
        settings = [order.tile, math.prod(shape[2:]), read, made, self._bytes(source), self._bytes(target)]
        settings += [len(tables.places), *self.stacked_shape(target)]
        inputs = [*entries, self.read(source), weights, bias or nothing, nothing]
        self.call(CONVOLVE, settings, inputs, self.name(target))

    def _conv(self, node: onnx.NodeProto) -> None:
        x, weight, *bias = node.input
        (y,) = node.output
        shape, by = self.plan.shapes[weight], self.plan.by
        windows = self.plan.windows(node, x, y, shape[2:])
        samples = (self.plan.shape(x) or ())[0]
        assert windows is not None
        tables = forward(windows, samples, by.lanes, by.places)
        self._convolve(x, y, weight, tables, turned=False, bias="".join(bias))

    def _conv_grad(self, node: onnx.NodeProto) -> None:
        dy, x, weight = node.input
        dx, dw, db = (*node.output, "", "")[:3]
        shape, by = self.plan.shapes[weight], self.plan.by
        windows = self.plan.windows(node, x, dy, shape[2:])
        samples = (self.plan.shape(x) or ())[0]
        assert windows is not None
        if dx:
            tables = backward(windows, samples, by.lanes, by.places)
            self._convolve(dy, dx, weight, tables, turned=True, bias="")
        if dw:
            self._slopes(dy, x, weight, dw, windows)
        if db:
            axes = self.constant(f"{db}.axes", np.array([0, 2, 3]))
            self.nodes.append(helper.make_node("ReduceSum", [self.read(dy), axes], [db], name=db, keepdims=0))

    def _slopes(self, dy: str, x: str, weight: str, dw: str, windows: Windows) -> None:
        shape = self.plan.shapes[weight]
        samples, channels, height, width = self.plan.shape(x) or ()
        found = spread(windows, channels, samples)
        settings = [shape[0], math.prod(shape[1:]), *windows.made, samples, *found.phases, *windows.pads]
        settings += [height, *found.size, channels, int(found.plain), width]
        inputs = [self.constant(f"{dw}.offsets", found.offsets), self.read(dy), self.read(x)]
        if (
            self.writes
            and dw == f"{weight}_grad"
            and dw in self.plan.outputs
            and not self.plan.readers.get(dw)
        ):
            done = f"{dw}.done"
            self.shapes[done] = (1,)
            self.written[dw] = done
            self.inputs[WANTED + weight] = shape
            self.call(WEIGHTS, [*settings, 1, 1, 0, 0, 0, *windows.strides], [*inputs, WANTED + weight], done)
            return
        self.shapes[dw] = shape
        self.call(WEIGHTS, [*settings, 4, *shape, *windows.strides], inputs, dw)

    def _pool(self, node: onnx.NodeProto) -> None:
        x, y = node.input[0], node.output[0]
        tables = self._pooled(node)
        taken = f"{y}.taken"
        self.shapes[taken] = self.stacked_shape(y)
        entry = self.constant(f"{y}.table", tables.table[:, :, 0].copy())
        settings = [tables.table.shape[1], self.shapes[taken][1], len(tables.table), self._bytes(x)]
        inputs = [entry, self.read(x)]
        made = (self.name(y), taken)
        self.call(POOL, [*settings, *self.shapes[taken]], inputs, *made, kind=TensorProto.UINT8)

    def _pooled(self, node: onnx.NodeProto) -> Tables:
        windows = self.plan.windows(
            node, node.input[0], node.output[0], tuple(attributes_of(node)["kernel_shape"])
        )
        assert windows is not None
        return forward(windows, (self.plan.shape(node.input[0]) or ())[0], self.plan.by.lanes, 1)

    def _unpool(self, node: onnx.NodeProto) -> None:
        dy, indices = node.input
        (dx,) = node.output
        pool = self.plan.made_by[indices]
        x, y = pool.input[0], pool.output[0]
        shape = self.stacked_shape(x)
        table = self._pooled(pool).table
        settings = [table.shape[1], shape[1], len(table), self._bytes(x), *shape]
        self.call(UNPOOL, settings, [f"{y}.table", self.read(dy), f"{y}.taken"], self.name(dx))

    def finish(self, model: onnx.ModelProto) -> None:
        """Put the nodes and what they need into the graph."""
        graph = model.graph
        for value in graph.output:
            self.unstack(value.name)
        outputs = [value for value in graph.output if value.name not in self.written]
        outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in self.written.values()]
        del graph.output[:], graph.node[:]
        graph.output.extend(outputs)
        graph.node.extend(self.nodes)
        declared = {value.name for value in graph.output}
        graph.value_info.extend(value for value in self.values if value.name not in declared)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.initializers.items()
        )
        graph.input.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
            for name, shape in self.inputs.items()
        )
        let_call(model, {ROOM: ROOM_WORDS})

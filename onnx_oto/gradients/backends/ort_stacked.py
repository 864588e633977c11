"""Parts of a gradient graph that compute with stacked tensors, by compiled functions of ours.

A tensor [N, C, H, W] of N samples lies there as [C, H, W, N] (`runtime/stacked.py`), and the runtime is told that it is
[1, C, H, W * N]: operators that treat all places of a channel alike (norms over a batch, elementwise ones, Concat of
channels) need not know. Convolutions, their gradients and MaxPool call functions of ours. Where a part begins and ends
tensors change their order; a part is stacked if that takes less than it saves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.stacked_tables import Tables, Windows, backward, forward, spread
from onnx_oto.gradients.session.prepared import Order
from onnx_oto.runtime.joining import (
    CONVOLVE,
    DOMAIN,
    OPERATOR,
    POOL,
    ROOM,
    ROOM_WORDS,
    SETTINGS,
    UNPOOL,
    WANTED,
    WEIGHTS,
)

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

_SAVED = 0.004
"""Nanoseconds that a multiplication takes less than in the plain kernels."""
_MOVED = 0.4
"""Nanoseconds that an element takes to change its order."""
# fmt: off
_ALIKE = frozenset((
    "Abs", "Add", "Clip", "Erf", "Exp", "HardSigmoid", "Identity", "Mul", "Neg", "Relu", "ReluGrad", "Sigmoid",
    "SigmoidGrad", "Sub", "Sum", "Tanh", "TanhGrad",
))
# fmt: on
"""Operators whose inputs are tensors of one shape, or the same at every place of a channel."""


@dataclass(frozen=True)
class Sizes:
    """How functions compute: samples of a vector, places and filters of a tile, filters and weights of a tile back."""

    lanes: int
    places: int
    columns: tuple[int, ...]
    filters: int
    terms: int

    def width(self, filters: int) -> int:
        """Return the width of tiles that wastes least.

        >>> [Sizes(16, 4, (6, 5, 4), 4, 6).width(n) for n in (20, 24, 64, 4)]
        [5, 6, 6, 4]
        """
        fitting = [each for each in self.columns if each <= filters]
        return min(fitting, key=lambda each: (-(-filters // each) * (each + 1), -each))


def sizes() -> Sizes:
    """Return the sizes that this machine's functions have."""
    from onnx_oto.runtime import stacked  # loads the compiler

    return Sizes(stacked.LANES, stacked.PLACES, stacked.COLUMNS, stacked.FILTERS, stacked.TERMS)


def stack(model: onnx.ModelProto, shapes: Shapes, weights: Collection[str], by: Sizes) -> dict[str, Shape]:
    """Rewrite, in place, what is faster stacked; return `shapes` with those of the tensors that are new.

    weights: inputs that can be had in another order (`session/prepared.py`), and whose gradients are outputs.
    """
    chosen = _Plan(model.graph, shapes, weights, by).chosen()
    return rewrite(model, shapes, weights, by, chosen) if chosen else dict(shapes)


def rewrite(
    model: onnx.ModelProto, shapes: Shapes, weights: Collection[str], by: Sizes, chosen: Collection[int]
) -> dict[str, Shape]:
    """Do what `stack` does to the chosen nodes, by their places in the graph."""
    rewritten = _Rewritten(_Plan(model.graph, shapes, weights, by))
    for index, node in enumerate(model.graph.node):
        if index in chosen:
            rewritten.stacked(node)
        else:
            rewritten.plain(node)
    rewritten.finish(model)
    return {**shapes, **rewritten.shapes}


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


def _is_partial(node: onnx.NodeProto) -> bool:
    """Return whether a Shape tells some sizes only."""
    settings = _attributes(node)
    return bool(settings.get("start", 0)) or "end" in settings


class _Plan:
    """What can be stacked, and what is worth it."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes, weights: Collection[str], by: Sizes) -> None:
        self.graph = graph
        self.shapes = shapes
        self.weights = frozenset(weights)
        self.by = by
        self.outputs = {value.name for value in graph.output}
        self.readers: dict[str, list[int]] = {}
        for index, node in enumerate(graph.node):
            for name in node.input:
                self.readers.setdefault(name, []).append(index)
        self.made_by = {name: node for node in graph.node for name in node.output if name}
        self.links = [self._links(node) for node in graph.node]

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a forward tensor, or of the gradient of one."""
        return self.shapes.get(name, self.shapes.get(re.sub(r"_grad(_\d+)?$", "", name)))

    def chosen(self) -> set[int]:
        """Return the nodes that are to be stacked: of connected ones all or none."""
        found: set[int] = set()
        for part in self._parts():
            work = sum(self._multiplications(self.graph.node[index]) for index in part)
            moved = sum(math.prod(self.shape(name) or ()) for name in self._border(part))
            if work * _SAVED > moved * _MOVED:
                found |= part
        return found

    def _parts(self) -> Iterator[set[int]]:
        touching: dict[str, list[int]] = {}
        for index, names in enumerate(self.links):
            for name in names:
                touching.setdefault(name, []).append(index)
        left = {index for index, names in enumerate(self.links) if names}
        while left:
            part, ahead = set(), [min(left)]
            while ahead:
                index = ahead.pop()
                if index not in part:
                    part.add(index)
                    ahead += [each for name in self.links[index] for each in touching[name]]
            left -= part
            yield part

    def _border(self, part: set[int]) -> set[str]:
        """Return the tensors that change their order: read from outside, or read outside."""
        linked = {name for index in part for name in self.links[index]}
        made = {name for index in part for name in self.graph.node[index].output}
        read = {
            name
            for name in linked & made
            if name in self.outputs or not part.issuperset(self.readers.get(name, ()))
        }
        return (linked - made) | read

    def _links(self, node: onnx.NodeProto) -> tuple[str, ...]:
        """Return the tensors that a node reads and makes stacked, none where it cannot."""
        names = {
            "Conv": self._of_conv,
            "ConvGrad": self._of_conv_grad,
            "BatchNormInternal": lambda n: (n.input[0], n.output[0]),
            "BatchNormalizationGrad": lambda n: (*n.input[:2], n.output[0]),
            "MaxPool": self._of_pool,
            "MaxPoolGrad": self._of_pool_grad,
            "Concat": self._of_channels,
            "Split": self._of_channels,
        }.get(node.op_type, self._of_elements)(node)
        names = tuple(name for name in names if name)
        return names if all(map(self._can_lie_stacked, names)) else ()

    def _can_lie_stacked(self, name: str) -> bool:
        if self._is_taken(name):
            return True
        shape = self.shape(name)
        return shape is not None and len(shape) == 4 and shape[0] % self.by.lanes == 0 and shape[0] > 0

    def _is_taken(self, name: str) -> bool:
        """Return whether a tensor says where a MaxPool found what it took."""
        maker = self.made_by.get(name)
        return maker is not None and maker.op_type == "MaxPool" and name in maker.output[1:]

    def windows(self, node: onnx.NodeProto, x: str, y: str, kernel: Shape) -> Windows | None:
        """Return the windows of a convolution or pool from x to y, None where they are not what is meant here."""
        settings, read, made = _attributes(node), self.shape(x), self.shape(y)
        if read is None or made is None or len(read) != 4 or len(kernel) != 2:
            return None
        if settings.get("auto_pad", b"NOTSET") != b"NOTSET" or settings.get("group", 1) != 1:
            return None
        strides, dilations = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
        pads = tuple(settings.get("pads", (0, 0, 0, 0)))
        return Windows(read[2:], made[2:], kernel, strides, dilations, pads[:2])  # type: ignore[arg-type]

    def _of_conv(self, node: onnx.NodeProto) -> tuple[str, ...]:
        x, weight, y = node.input[0], node.input[1], node.output[0]
        shape = self.shapes.get(weight, ())
        fits = weight in self.weights and len(shape) == 4 and shape[0] >= self.by.columns[-1]
        return (x, y) if fits and self.windows(node, x, y, shape[2:]) else ()

    def _of_conv_grad(self, node: onnx.NodeProto) -> tuple[str, ...]:
        dy, x, weight = node.input
        dx, *rest = node.output
        shape = self.shapes.get(weight, ())
        if weight not in self.weights or len(shape) != 4 or not self.windows(node, x, dy, shape[2:]):
            return ()
        enough = shape[0] >= self.by.filters and math.prod(shape[1:]) >= self.by.terms
        if (rest and rest[0] and not enough) or (dx and shape[1] < self.by.columns[-1]):
            return ()
        return dy, x, dx

    def _of_pool(self, node: onnx.NodeProto) -> tuple[str, ...]:
        settings, x, y = _attributes(node), node.input[0], node.output[0]
        taken = node.output[1] if len(node.output) > 1 else ""
        if settings.get("storage_order", 0) or taken in self.outputs:
            return ()
        if any(self.graph.node[index].op_type != "MaxPoolGrad" for index in self.readers.get(taken, ())):
            return ()
        kernel = tuple(settings["kernel_shape"])
        if math.prod(kernel) > 255 or not self.windows(node, x, y, kernel):
            return ()
        return (x, y, taken)

    def _of_pool_grad(self, node: onnx.NodeProto) -> tuple[str, ...]:
        pool = self.made_by.get(node.input[1])
        if pool is None or pool.op_type != "MaxPool" or not self._links(pool):
            return ()
        if self.shape(node.output[0]) != self.shape(pool.input[0]):
            return ()
        return (*node.input, *node.output)

    def _of_channels(self, node: onnx.NodeProto) -> tuple[str, ...]:
        if _attributes(node).get("axis", 0) not in (1, -3):
            return ()
        return (*(node.input if node.op_type == "Concat" else node.input[:1]), *node.output)

    def _of_elements(self, node: onnx.NodeProto) -> tuple[str, ...]:
        if node.op_type not in _ALIKE or len(node.output) != 1:
            return ()
        shape = self.shape(node.output[0])
        if shape is None or len(shape) != 4:
            return ()
        linked = []
        for name in filter(None, node.input):
            own = self.shape(name)
            if own == shape:
                linked.append(name)
            elif own is None or any(size != 1 for axis, size in enumerate(reversed(own)) if axis != 2):
                return ()
        return (*linked, node.output[0])

    def _multiplications(self, node: onnx.NodeProto) -> int:
        if node.op_type == "Conv":
            return math.prod(self.shapes[node.output[0]]) * math.prod(self.shapes[node.input[1]][1:])
        if node.op_type != "ConvGrad":
            return 0
        each = math.prod(self.shape(node.input[0]) or ()) * math.prod(self.shapes[node.input[2]][1:])
        return each * sum(1 for name in node.output[:2] if name)


@dataclass
class _Rewritten:
    """The nodes of the faster graph as they are collected."""

    plan: _Plan
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
        linked = set(self.plan._links(node))
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
        self.nodes.append(
            helper.make_node(
                OPERATOR,
                given,
                list(outputs),
                name=name,
                domain=DOMAIN,
                operator="onnx_oto",
                overload_name=function,
            )
        )
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
        if dw == f"{weight}_grad" and dw in self.plan.outputs and not self.plan.readers.get(dw):
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
            node, node.input[0], node.output[0], tuple(_attributes(node)["kernel_shape"])
        )
        assert windows is not None
        return forward(windows, (self.plan.shape(node.input[0]) or ())[0], self.plan.by.lanes, 1)

    def _unpool(self, node: onnx.NodeProto) -> None:
        dy, indices = node.input
        (dx,) = node.output
        pool = self.plan.made_by[indices]
        x, y = pool.input[0], pool.output[0]
        shape = self.stacked_shape(x)
        taps, vectors = len(list(self._pooled(pool).table[0])), len(self._pooled(pool).table)
        settings = [taps, shape[1], vectors, self._bytes(x), *shape]
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
        graph.input.append(helper.make_tensor_value_info(ROOM, TensorProto.INT64, [ROOM_WORDS]))
        if all(each.domain != DOMAIN for each in model.opset_import):
            model.opset_import.append(helper.make_opsetid(DOMAIN, 1))

"""Convolutions with many weights and few places, which the sessions of a batch divide among themselves by weights.

Each session computes some filters for the samples of all (`runtime/divided.py`), so that all of them together read the
weights once, not each, write their gradient once, and turn none. Milliseconds on each of two threads with AVX-512, the
best of 40 steps, samples divided -> weights divided, forward; back with what was added up: (8, 512 -> 512, 2x2, 3x3)
0.70 -> 0.45; 2.01 -> 0.95; (8, 256 -> 512, 4x4 -> 2x2, 3x3) 0.65 -> 0.32; 2.07 -> 0.50; (8, 256 -> 256, 4x4, 3x3) 0.40
-> 0.48; 0.95 -> 1.05, but nothing is turned. Whole steps: see `docs/results.md`.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.calling import call, let_call
from onnx_oto.gradients.backends.stacked_plan import attributes_of
from onnx_oto.gradients.backends.stacked_tables import Windows
from onnx_oto.model.graph.order import BODIES
from onnx_oto.model.shapes.reference import NOT_REPEATABLE
from onnx_oto.runtime.joining import DIVIDED, DIVIDED_BACK, MEMBER, ROOM, ROOM_WORDS, SETTINGS, WANTED

Shapes = Mapping[str, tuple[int, ...]]

_MANY = 1 << 17
"""Weights at the least."""
_FEW = 256
"""Places of all samples at the most."""


class Tiles(NamedTuple):
    """How functions compute: floats of a vector, vectors of a tile at the most."""

    lanes: int
    widest: int

    def fit(self, weight: Sequence[int]) -> bool:
        """Return whether filters of a weight [filters, channels, *kernel] fill them."""
        terms = math.prod(weight[1:])
        return terms % self.lanes == 0 and terms >= self.widest * self.lanes


def tiles() -> Tiles:
    """Return the tiles that this machine's functions have."""
    from onnx_oto.runtime import divided, stacked  # loads the compiler

    return Tiles(stacked.LANES, divided.WIDEST)


def pays(weight: Sequence[int], places: int) -> bool:
    """Return whether sessions are faster that divide a convolution by weights. places: that it makes of all samples.

    >>> pays((512, 512, 3, 3), 8 * 2 * 2), pays((512, 512, 3, 3), 64 * 4 * 4), pays((64, 64, 3, 3), 8 * 2 * 2)
    (True, False, False)
    """
    return math.prod(weight) >= _MANY and places <= _FEW


def divide(
    model: onnx.ModelProto,
    shapes: Shapes,
    weights: Collection[str],
    samples: int,
    *,
    rule: Callable[[Sequence[int], int], bool] | None = None,
) -> None:
    """Rewrite, in place, the convolutions of a gradient graph that are faster divided.

    shapes: static shapes of forward tensors by name. weights: inputs whose gradients are outputs. samples: of all
    graphs of this process. rule: in place of `pays`.
    """
    rewritten = _Divided(model.graph, shapes, frozenset(weights), samples, rule or pays)
    for node in list(model.graph.node):
        rewrite = {"Conv": rewritten.forward, "ConvGrad": rewritten.backward}.get(node.op_type)
        if rewrite is None or not rewrite(node):
            rewritten.nodes.append(node)
    rewritten.finish(model)


def _common(graph: onnx.GraphProto, weights: Collection[str]) -> set[str]:
    """Return the tensors that are the same in every session: parameters, constants, and what is computed of these.

    Masks are inputs, and each session has its own, so that a weight with Dropout is another one in each.
    """
    found = {*weights, *(tensor.name for tensor in graph.initializer), ""}
    for node in graph.node:
        is_known = not node.domain and node.op_type not in NOT_REPEATABLE and found.issuperset(node.input)
        if is_known and not any(each.type in BODIES for each in node.attribute):
            found.update(node.output)
    return found


class _Divided:
    """The nodes of the faster graph as they are collected."""

    def __init__(
        self,
        graph: onnx.GraphProto,
        shapes: Shapes,
        weights: frozenset[str],
        samples: int,
        rule: Callable[[Sequence[int], int], bool],
    ) -> None:
        self.shapes = shapes
        self.weights = weights
        self.samples = samples
        self.rule = rule
        self.by = tiles()
        self.outputs = {value.name for value in graph.output}
        self.read = {name for node in graph.node for name in node.input}
        self.known = self.outputs | {value.name for value in graph.value_info}
        self.common = _common(graph, weights)
        self.nodes: list[onnx.NodeProto] = []
        self.values: list[onnx.ValueInfoProto] = []
        self.constants: dict[str, np.ndarray] = {}
        self.written: dict[str, str] = {}

    def forward(self, node: onnx.NodeProto) -> bool:
        """Emit y of a Conv; return False where it stays."""
        x, weight, *bias = node.input
        (y,) = node.output
        windows = self._windows(node, x, y, weight)
        if windows is None or y in self.outputs or not self.common.issuperset([weight, *bias, ""]):
            return False
        table = self._table(windows, y)
        settings = self._settings(x, weight, windows, y, bool(bias), self.shapes[y])
        nothing = "".join(bias) or self._constant("onnx_oto.divided.nothing", np.zeros(1, np.float32))
        self._declare(y, self.shapes[y])
        self.nodes.append(
            call(DIVIDED, f"{y}.divided", [ROOM, settings, MEMBER, table, x, weight, nothing], [y])
        )
        return True

    def backward(self, node: onnx.NodeProto) -> bool:
        """Emit dx of a ConvGrad and write dw where it is wanted; return False where it stays."""
        dy, x, weight = node.input
        dx, dw, db = (*node.output, "", "")[:3]
        alone = dw == f"{weight}_grad" and dw in self.outputs and dw not in self.read
        windows = self._windows(node, x, "", weight)
        if windows is None or weight not in self.weights or not alone or dx in self.outputs:
            return False
        table = self._table(windows, dw)
        settings = self._settings(x, weight, windows, dw, bool(dx), self.shapes[x])
        done = self.written[dw] = f"{dw}.divided"
        if dx:
            self._declare(dx, self.shapes[x])
        inputs = [ROOM, settings, MEMBER, table, dy, x, weight, WANTED + weight]
        self.nodes.append(call(DIVIDED_BACK, done, inputs, [*([dx] if dx else []), done]))
        if db:
            axes = self._constant("onnx_oto.divided.axes", np.array([0, 2, 3]))
            self.nodes.append(helper.make_node("ReduceSum", [dy, axes], [db], name=db, keepdims=0))
        return True

    def _windows(self, node: onnx.NodeProto, x: str, y: str, weight: str) -> Windows | None:
        """Return the windows of a convolution of x that is to be divided; None for others. y: "" if unknown."""
        settings, read, shape = attributes_of(node), self.shapes.get(x, ()), self.shapes.get(weight, ())
        if len(read) != 4 or len(shape) != 4 or settings.get("group", 1) != 1 or not self.by.fit(shape):
            return None
        if settings.get("auto_pad", b"NOTSET") != b"NOTSET":
            return None
        strides, dilations = (tuple(settings.get(name, (1, 1))) for name in ("strides", "dilations"))
        pads = tuple(settings.get("pads", (0, 0, 0, 0)))
        made = tuple(
            (size + low + high - (kernel - 1) * dilation - 1) // stride + 1
            for size, low, high, kernel, dilation, stride in zip(
                read[2:], pads[:2], pads[2:], shape[2:], dilations, strides, strict=True
            )
        )
        if y and self.shapes.get(y) != (read[0], shape[0], *made):
            return None
        if not self.rule(shape, self.samples * math.prod(made)):
            return None
        return Windows(read[2:], made, shape[2:], strides, dilations, pads[:2])

    def _table(self, windows: Windows, name: str) -> str:
        """Return which place of x meets which of y by a tap, int32 [taps, places of y], -1 for none."""
        rows = []
        for tap in windows.taps():
            row, column = (
                np.arange(made) * stride - pad + one * dilation
                for made, stride, pad, one, dilation in zip(
                    windows.made, windows.strides, windows.pads, tap, windows.dilations, strict=True
                )
            )
            inside = ((row >= 0) & (row < windows.read[0]))[:, None] & (
                (column >= 0) & (column < windows.read[1])
            )
            rows.append(np.where(inside, row[:, None] * windows.read[1] + column, -1).reshape(-1))
        return self._constant(f"{name}.meets", np.array(rows, np.int32))

    def _settings(
        self, x: str, weight: str, windows: Windows, name: str, further: bool, shape: Sequence[int]
    ) -> str:
        filters, channels, *kernel = self.shapes[weight]
        read, made = math.prod(windows.read), math.prod(windows.made)
        place = zlib.crc32(f"{name}.divided".encode())
        settings = np.zeros(SETTINGS, np.int64)
        settings[:8] = filters, channels, math.prod(kernel), read, made, self.shapes[x][0], place, further
        settings[8:13] = *shape, 1
        return self._constant(f"{name}.division", settings)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self.constants[name] = value
        return name

    def _declare(self, name: str, shape: Sequence[int]) -> None:
        """Say what shape a tensor has: calls tell none."""
        if name not in self.known:
            self.values.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))

    def finish(self, model: onnx.ModelProto) -> None:
        """Put the nodes and what they need into the graph."""
        if len(self.nodes) == len(model.graph.node) and not self.constants:
            return
        graph = model.graph
        outputs: list[Any] = [value for value in graph.output if value.name not in self.written]
        outputs += [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in self.written.values()]
        del graph.output[:], graph.node[:]
        graph.output.extend(outputs)
        graph.node.extend(self.nodes)
        graph.value_info.extend(self.values)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in self.constants.items()
        )
        graph.input.extend(
            helper.make_tensor_value_info(
                WANTED + name.removesuffix("_grad"),
                TensorProto.FLOAT,
                self.shapes[name.removesuffix("_grad")],
            )
            for name in self.written
        )
        let_call(model, {ROOM: ROOM_WORDS, MEMBER: 2})

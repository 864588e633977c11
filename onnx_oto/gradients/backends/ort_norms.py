"""BatchNormalization in training and its gradient by compiled functions of ours, a Relu behind it included.

The kernels of ONNX Runtime read a tensor five times forward and eight back, and more where several sessions share a
batch (`ort_statistics`); these read it three times, and take the moments of the whole batch in the middle of it.
"""

from __future__ import annotations

import math
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.calling import call, let_call
from onnx_oto.model.graph.node import attribute_value
from onnx_oto.runtime.joining import (
    DENORMALISE,
    MEMBER,
    NORMALISE,
    ROOM,
    ROOM_WORDS,
    SETTINGS,
)

Shapes = Mapping[str, tuple[int, ...]]

FEWEST = 1024
"""Elements of a channel that lie side by side, at the least: with fewer the runtime's own kernels are as fast."""


def write_norms(model: onnx.ModelProto, shapes: Shapes, *, joint: bool, fewest: int | None = None) -> None:
    """Rewrite, in place, the BatchNormalizations of a gradient graph whose channels are long enough.

    shapes: static shapes of forward tensors by name. joint: the sessions that share a batch have the input MEMBER.
    fewest: in place of FEWEST.
    """
    written = _Written(model.graph, shapes, joint, FEWEST if fewest is None else fewest)
    nodes: list[list[onnx.NodeProto]] = []
    for node in written.nodes:
        rewrite = {
            "BatchNormInternal": written.forward,
            "BatchNormalizationGrad": written.backward,
        }.get(node.op_type)
        found = rewrite(node) if rewrite is not None else None
        nodes.append([node] if found is None else found)
    if not written.calls:
        return
    left = [each for index, those in enumerate(nodes) if index not in written.gone for each in those]
    del model.graph.node[:]
    model.graph.node.extend(left)
    written.declare(model)


class _Written:
    """The rewrites, and what they add to the graph. gone: places of nodes that are part of others now.

    floored: by the mean that a norm made, what the Relu behind it makes, where both are one.
    """

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes, joint: bool, fewest: int) -> None:
        self.graph = graph
        self.fewest = fewest
        self.shapes = shapes
        self.outputs = {value.name for value in graph.output}
        self.known = self.outputs | {value.name for value in graph.value_info}
        self.reads = Counter(name for node in graph.node for name in node.input)
        self.nodes = list(graph.node)
        self.readers = {name: index for index, node in enumerate(self.nodes) for name in node.input}
        self.made_by = {name: index for index, node in enumerate(self.nodes) for name in node.output}
        self.gone: set[int] = set()
        self.floored: dict[str, str] = {}
        self.calls: list[str] = []
        self.member = MEMBER if joint else self._constant("onnx_oto.alone", np.zeros(2, np.int64))

    def forward(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """y, running mean, running variance, mean, 1 / deviation of BatchNormInternal."""
        x, scale, shift, mean, variance = node.input
        layout = self._layout(x)
        if layout is None:
            return None
        given = list(node.output) + [""] * (5 - len(node.output))
        y, *moments = (name or f"{node.name}.{part}" for part, name in enumerate(given))
        relu = self._relu_of(y)
        if relu is not None:
            self.gone.add(relu)
            y = self.floored[moments[2]] = self.nodes[relu].output[0]
        settings = {each.name: attribute_value(each) for each in node.attribute}
        numbers = settings.get("epsilon", 1e-5), settings.get("momentum", 0.9)
        inputs = [x, scale, shift, mean, variance]
        return self._call(node, NORMALISE, x, layout, relu is not None, numbers, inputs, [y, *moments])

    def backward(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """dx, dscale, dshift of BatchNormalizationGrad(dy, x, scale, mean, 1 / deviation)."""
        dy, x, scale, mean, deviation = node.input
        dx, *slopes = node.output
        layout = self._layout(x)
        if layout is None or not dx:
            return None
        slopes = [name or f"{node.name}.{part}" for part, name in enumerate((*slopes, "", "")[:2])]
        inputs = [dy, x, scale, mean, deviation]
        mask = self.made_by.get(dy, -1)
        floor = self.nodes[mask]
        if floor.op_type == "ReluGrad" and self.reads[dy] == 1 and self.floored.get(mean) == floor.input[1]:
            inputs = [floor.input[0], x, scale, mean, deviation, floor.input[1]]
            self.gone.add(mask)
        numbers = 0.0, 0.0
        return self._call(node, DENORMALISE, x, layout, len(inputs) > 5, numbers, inputs, [dx, *slopes])

    def _layout(self, x: str) -> tuple[int, int, int] | None:
        """Return how many samples, channels, and elements of a channel of a sample; None where those are too few."""
        shape = self.shapes.get(x, ())
        if not 2 < len(shape) < 5 or math.prod(shape[2:]) < self.fewest:
            return None
        return shape[0], shape[1], math.prod(shape[2:])

    def _relu_of(self, name: str) -> int | None:
        """Return the place of the Relu that alone reads a tensor."""
        if self.reads[name] != 1 or name in self.outputs:
            return None
        reader = self.readers[name]
        return reader if self.nodes[reader].op_type == "Relu" else None

    def _call(
        self,
        node: onnx.NodeProto,
        function: str,
        x: str,
        layout: tuple[int, int, int],
        relu: bool,
        numbers: tuple[float, float],
        inputs: Sequence[str],
        outputs: Sequence[str],
    ) -> list[onnx.NodeProto]:
        """Return the node that calls the function, and copies of what is an output of the graph.

        The runtime puts what a function returns in the place of an output's memory, not into it.
        """
        shape, channels = self.shapes[x], layout[1]
        settings = np.zeros(SETTINGS, np.int64)
        settings[: 5 + len(shape)] = [*layout, int(relu), len(shape), *shape]
        place = float(zlib.crc32(node.name.encode()))
        chosen = np.array([layout[0] * layout[2], *numbers, place])
        told = [f"{name}.told" if name in self.outputs else name for name in outputs]
        self.calls.append(node.name)
        for index, name in enumerate(told):
            if name not in self.known:
                size = shape if index == 0 else [channels]
                self.graph.value_info.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, size))
        given = [
            ROOM,
            self._constant(f"{node.name}.layout", settings),
            self.member,
            self._constant(f"{node.name}.numbers", chosen),
        ]
        called = call(function, f"{node.name}.called", [*given, *inputs], told)
        copies = [
            helper.make_node("Concat", [there], [name], name=f"{there}.copied", axis=0)
            for there, name in zip(told, outputs, strict=True)
            if there != name
        ]
        return [called, *copies]

    def _constant(self, name: str, value: np.ndarray) -> str:
        if all(each.name != name for each in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(value, name))
        return name

    def declare(self, model: onnx.ModelProto) -> None:
        """Give the graph the inputs that functions ask for."""
        let_call(model, {ROOM: ROOM_WORDS} | ({MEMBER: 2} if self.member == MEMBER else {}))

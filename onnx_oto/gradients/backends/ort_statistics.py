"""BatchNormalization over a batch that several sessions share, each with some of its samples.

Each session takes the moments of its own samples, a node tells them to the others and returns those of the whole batch
(`runtime/meeting.py`), and plain nodes normalise with them. Back the same: the kernel's gradient subtracts means over
its own samples; what it lacks to those over the batch is a x + b for each channel.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnx_oto.gradients.backends.calling import call, let_call
from onnx_oto.gradients.backends.probing import computed, functions_are_ready
from onnx_oto.model.graph.node import attribute_value
from onnx_oto.runtime.joining import DOMAIN, MEMBER, MOMENTS, SLOPES

Shapes = Mapping[str, tuple[int, ...]]

_FORWARD, _BACKWARD = "BatchNormInternal", "BatchNormalizationGrad"


def join_statistics(model: onnx.ModelProto, shapes: Shapes) -> None:
    """Rewrite, in place, every BatchNormalization of a gradient graph, which gets the input MEMBER.

    shapes: static shapes of forward tensors by name.
    """
    graph = model.graph
    joined = _Joined(graph, {**_declared(graph), **shapes})
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        rewrite = {_FORWARD: joined.forward, _BACKWARD: joined.backward}.get(node.op_type)
        nodes.extend([node] if rewrite is None else rewrite(node))
    del graph.node[:]
    graph.node.extend(nodes)
    let_call(model, {MEMBER: 2})


def _declared(graph: onnx.GraphProto) -> Shapes:
    """Return the shapes that a graph declares."""
    values = (*graph.value_info, *graph.input, *graph.output)
    return {v.name: tuple(d.dim_value for d in v.type.tensor_type.shape.dim) for v in values}


@cache
def can_join() -> bool:
    """Return whether this environment has the node that asks, tried where it can do no harm."""
    if not functions_are_ready():
        return False
    graph = onnx.GraphProto(name="probe")
    joined, node = _Joined(graph, {}), onnx.NodeProto(name="probe")
    vectors = [joined.constant(f"in.{i}", np.arange(3) + i) for i in range(4)]
    found = [f"out.{i}" for i in range(5)]
    graph.node.append(joined.asking(MOMENTS, node, (3.0, 0.0, 0.0), vectors, found, 3))
    doubled = [f"{name}.doubled" for name in found]
    graph.node.extend(
        helper.make_node("Add", [a, a], [b], name=b) for a, b in zip(found, doubled, strict=True)
    )
    graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in doubled)
    graph.input.append(helper.make_tensor_value_info(MEMBER, TensorProto.INT64, [2]))
    results = computed(graph, DOMAIN, {MEMBER: np.zeros(2, np.int64)})
    expected = [2.0 * (np.arange(3) + i) for i in (2, 3, 0, 1)] + [np.full(3, 2.0)]
    return results is not None and all(np.array_equal(*pair) for pair in zip(results, expected, strict=True))


class _Joined:
    """The rewrites, and what they add to the graph besides nodes."""

    def __init__(self, graph: onnx.GraphProto, shapes: Shapes) -> None:
        self.graph = graph
        self.shapes = shapes
        self.outputs = {value.name for value in graph.output}
        self.known = self.outputs | {value.name for value in graph.value_info}
        self.constants: set[str] = set()

    def forward(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """y, running mean, running variance, mean, 1 / deviation of BatchNormInternal."""
        x, scale, shift, running_mean, running_variance = node.input
        settings = {each.name: attribute_value(each) for each in node.attribute}
        epsilon, momentum = settings.get("epsilon", 1e-5), settings.get("momentum", 0.9)
        channels = self.shapes[x][1]
        given = list(node.output) + [""] * (5 - len(node.output))
        y, *moments = (name or f"{node.name}.{part}" for part, name in enumerate(given))
        # The runtime puts what the node returns in the place of an output's memory, not into it: it is copied there.
        told = [f"{name}.told" if name in self.outputs else name for name in moments]
        told.append(f"{node.name}.variance")
        copied = [
            helper.make_node("Concat", [there], [name], name=f"{there}.copied", axis=0)
            for there, name in zip(told, moments, strict=False)
            if there != name
        ]
        own = onnx.NodeProto()
        own.CopyFrom(node)
        # The kernel writes over the running statistics it is given, be they constants: these are nobody's.
        idle = [helper.make_node("Sub", [scale, scale], [f"{node.name}.idle.{part}"]) for part in "mv"]
        own.input[3:] = [each.output[0] for each in idle]
        del own.output[:]
        own.output.extend(f"{node.name}.own.{part}" for part in range(5))
        asked = [own.output[3], own.output[4], running_mean, running_variance]
        return [
            *idle,
            own,
            self.asking(MOMENTS, node, (self._count(x), epsilon, momentum), asked, told, channels),
            *copied,
            helper.make_node(
                "BatchNormalization",
                [x, scale, shift, told[2], told[4]],
                [y],
                name=f"{node.name}.joined",
                epsilon=epsilon,
            ),
        ]

    def backward(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """dx, dscale, dshift of BatchNormalizationGrad(dy, x, scale, mean, 1 / deviation)."""
        _, x, scale, mean, deviation = node.input
        channels = self.shapes[x][1]
        dx, *slopes = node.output
        if not dx:
            return [node]
        own = onnx.NodeProto()
        own.CopyFrom(node)
        del own.output[:]
        own.output.extend([f"{node.name}.own", *(n or f"{node.name}.{i}" for i, n in enumerate(slopes))])
        lacking = [f"{node.name}.factor", f"{node.name}.offset"]
        rest = f"{node.name}.rest"
        asked = [own.output[1], own.output[2], scale, mean, deviation]
        zeros, ones = (
            self.constant(f"onnx_oto.joined.{value}.{channels}", np.full(channels, float(value)))
            for value in (0, 1)
        )
        return [
            own,
            self.asking(SLOPES, node, (self._count(x), 0.0, 0.0), asked, lacking, channels),
            helper.make_node(
                "BatchNormalization", [x, *lacking, zeros, ones], [rest], name=rest, epsilon=0.0
            ),
            helper.make_node("Add", [own.output[0], rest], [dx], name=f"{node.name}.joined"),
        ]

    def asking(
        self,
        function: str,
        node: onnx.NodeProto,
        settings: Sequence[float],
        inputs: Sequence[str],
        outputs: Sequence[str],
        channels: int,
    ) -> onnx.NodeProto:
        """Return the node that asks the others; outputs: float32 [channels], which no schema tells."""
        place = float(zlib.crc32(node.name.encode()))
        constant = self.constant(f"{node.name}.settings", np.array([*settings, place]), np.float64)
        self.graph.value_info.extend(
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [channels])
            for name in outputs
            if name not in self.known
        )
        return call(function, f"{node.name}.asked", [MEMBER, constant, *inputs], list(outputs))

    def _count(self, name: str) -> int:
        """Return how many elements of a tensor belong to each channel."""
        shape = self.shapes[name]
        return math.prod(shape) // shape[1]

    def constant(self, name: str, value: np.ndarray, dtype: type[np.floating] = np.float32) -> str:
        if name not in self.constants:
            self.constants.add(name)
            self.graph.initializer.append(numpy_helper.from_array(value.astype(dtype), name))
        return name

"""Which parts of a gradient graph can compute with stacked tensors, and where that is worth it (see `ort_stacked`)."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from onnx_oto.gradients.backends.stacked_tables import Windows

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


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    return {each.name: helper.get_attribute_value(each) for each in node.attribute}


class Plan:
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
        self.sloped = {node.input[0]: pool.output[0] for node, pool in self._pools()}
        self.links = [self.links_of(node) for node in graph.node]
        self._leave_pools_alone()

    def shape(self, name: str) -> Shape | None:
        """Return the shape of a forward tensor, or of the gradient of one."""
        forward = self.sloped.get(name, re.sub(r"_grad(_\d+)?$", "", name))
        return self.shapes.get(name, self.shapes.get(forward))

    def _pools(self) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
        """Yield every gradient of a MaxPool, and the MaxPool."""
        for node in self.graph.node:
            pool = self.made_by.get(node.input[1]) if node.op_type == "MaxPoolGrad" else None
            if pool is not None and pool.op_type == "MaxPool":
                yield node, pool

    def _leave_pools_alone(self) -> None:
        """Link no MaxPool whose gradient is not linked, nor the reverse: where something was found has one form."""
        places = {id(node): index for index, node in enumerate(self.graph.node)}
        pairs = [(places[id(node)], places[id(pool)]) for node, pool in self._pools()]
        while apart := [pair for pair in pairs if bool(self.links[pair[0]]) != bool(self.links[pair[1]])]:
            for index in (each for pair in apart for each in pair):
                self.links[index] = ()

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

    def links_of(self, node: onnx.NodeProto) -> tuple[str, ...]:
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
        return shape is not None and len(shape) == 4 and shape[0] % self.by.lanes == 0 and min(shape) > 0

    def _is_taken(self, name: str) -> bool:
        """Return whether a tensor says where a MaxPool found what it took."""
        maker = self.made_by.get(name)
        return maker is not None and maker.op_type == "MaxPool" and name in maker.output[1:]

    def windows(self, node: onnx.NodeProto, x: str, y: str, kernel: Shape) -> Windows | None:
        """Return the windows of a convolution or pool from x to y, None where they are not what is meant here."""
        settings, read, made = attributes_of(node), self.shape(x), self.shape(y)
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
        settings, x, y = attributes_of(node), node.input[0], node.output[0]
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
        if pool is None or pool.op_type != "MaxPool" or not self.links_of(pool):
            return ()
        if self.shape(node.output[0]) != self.shape(pool.input[0]):
            return ()
        return (*node.input, *node.output)

    def _of_channels(self, node: onnx.NodeProto) -> tuple[str, ...]:
        if attributes_of(node).get("axis", 0) not in (1, -3):
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

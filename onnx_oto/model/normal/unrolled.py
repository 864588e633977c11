"""Loops and Scans of a known number of trips, written out: for training, which does not enter bodies.

Each trip is a copy of the body's nodes that reads the same weights. What is carried goes from copy to copy, what trips
give is joined at the end.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, helper

from onnx_oto.model.graph.forms import form
from onnx_oto.model.graph.names import all_names, fresh, name_nodes
from onnx_oto.model.graph.node import attribute_value, opset_of
from onnx_oto.model.graph.order import bodies, nodes_inside
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.normal.lifted import rename
from onnx_oto.model.shapes.inference import Knowledge, infer, small_constants

MOST_TRIPS = 64
"""How many trips are written out at most."""
MOST_COPIES = 20_000
"""How many nodes all copies of one body may have."""


def unrolled(model: ModelProto) -> ModelProto:
    """Return the model with its Loops and Scans of few, known trips written out; itself where it has none.

    The model is in normal form. The argument is not modified. A Loop is written out if its number of trips is known and
    no condition ends it, a Scan if the length of what it goes along is known.
    """
    if not any(_is_loop(node) for node in model.graph.node):
        return model
    knowledge = infer(model)
    values = {**small_constants(model), **knowledge.values}
    result = ModelProto()
    result.CopyFrom(model)
    writer = _Unrolling(result.graph, values, knowledge, opset_of(model))
    nodes = [each for node in result.graph.node for each in writer.written(node)]
    if not writer.wrote:
        return model
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    name_nodes(result.graph)
    return unrolled(result)  # what the copies of a body make is known now, too


def _is_loop(node: NodeProto) -> bool:
    return node.op_type in ("Loop", "Scan") and not node.domain


class _Unrolling:
    """Writes out the loops of a graph. values, knowledge: what is known of its tensors."""

    def __init__(
        self,
        graph: GraphProto,
        values: Mapping[str, np.ndarray],
        knowledge: Knowledge,
        opset: int,
    ) -> None:
        self._graph = graph
        self._values = values
        self._shapes = knowledge.shapes
        self._dtypes = knowledge.dtypes
        self._opset = opset
        self._taken = all_names(graph)
        self.wrote = False

    def written(self, node: NodeProto) -> Iterator[NodeProto]:
        """Yield what stands for a node: itself, or the copies of its body."""
        trips = self._trips(node) if _is_loop(node) else None
        body = next(iter(bodies(node)), None)
        few = trips is not None and trips <= MOST_TRIPS and body is not None
        if not few or body is None or trips is None or trips * _count(body) > MOST_COPIES:
            yield node
            return
        is_loop = node.op_type == "Loop"
        scanned = 0 if is_loop else int(_attribute(node, "num_scan_inputs", 0))
        first = 2 if is_loop else 0
        states = list(node.input[first : len(node.input) - scanned])
        if trips == 0 and any(
            each is None for each in self._nothing(node, len(states))
        ):  # what no trip gives has unknown sizes
            yield node
            return
        self.wrote = True
        given: list[list[str]] = [[] for _ in node.output[len(states) :]]
        for trip in range(trips):
            fed = [self._constant(trip), self._constant(True)][:first] + states
            for position in range(len(node.input) - scanned, len(node.input)):
                fed.append(self._name(node, "part"))
                yield self._part(node, position, trip, trips, fed[-1])
            copy, outputs = self._copy(body, fed)
            for inner in copy:
                yield from self.written(inner)
            outputs = outputs[1:] if is_loop else outputs
            states, last = outputs[: len(states)], outputs[len(states) :]
            for parts, name in zip(given, last, strict=True):
                parts.append(name)
        for name, output in zip(states, node.output, strict=False):
            if output:
                yield helper.make_node("Identity", [name], [output])
        for number, parts in enumerate(given):
            if node.output[len(states) + number]:
                yield from self._joined(node, number, parts, node.output[len(states) + number])

    # --- how often ------------------------------------------------------------------------------------------------
    def _trips(self, node: NodeProto) -> int | None:
        """Return how often the body surely runs, None where that is not known."""
        if node.op_type == "Scan":
            scanned = int(_attribute(node, "num_scan_inputs", 0))
            axes = _attribute(node, "scan_input_axes", None) or [0] * scanned
            names = node.input[len(node.input) - scanned :]
            shapes = [self._shapes.get(name) for name in names]
            sizes = [shape[axis] for shape, axis in zip(shapes, axes, strict=True) if shape]
            return next((size for size in sizes if isinstance(size, int)), None)
        body = next(iter(bodies(node)))
        most = self._known(node.input[0])
        begins = self._known(node.input[1]) if node.input[1] else True
        if most is None or begins is None:
            return None
        if not begins:
            return 0
        made = {name: inner for inner in body.node for name in inner.output}
        end = body.output[0].name
        while end in made and made[end].op_type == "Identity":
            end = made[end].input[0]
        return max(int(most), 0) if end == body.input[1].name or self._known(end) else None

    def _known(self, name: str) -> Any:
        """Return the value of a tensor of one element, None where it is not known."""
        value = self._values.get(name)
        return None if value is None or value.dtype == object or value.size != 1 else value.reshape(-1)[0]

    # --- what is written ------------------------------------------------------------------------------------------
    def _copy(self, body: GraphProto, fed: Sequence[str]) -> tuple[list[NodeProto], list[str]]:
        """Return a body's nodes under new names, reading `fed` for its inputs, and the names of its outputs."""
        copy = GraphProto()
        copy.CopyFrom(body)
        names = {name: fresh(f"{name}__trip", self._taken) for name in _made(body)}
        names |= {value.name: name for value, name in zip(body.input, fed, strict=True)}
        rename(copy, names)
        for node in nodes_inside(copy.node):
            node.name = ""
        return list(copy.node), [value.name for value in copy.output]

    def _part(self, node: NodeProto, position: int, trip: int, trips: int, name: str) -> NodeProto:
        """Return the node that takes the slice of one trip of what is scanned."""
        number = position - (len(node.input) - int(_attribute(node, "num_scan_inputs", 0)))
        axes = _attribute(node, "scan_input_axes", None)
        turned = _attribute(node, "scan_input_directions", None)
        index = trips - 1 - trip if turned and turned[number] else trip
        axis = axes[number] if axes else 0
        return helper.make_node("Gather", [node.input[position], self._constant(index)], [name], axis=axis)

    def _nothing(self, node: NodeProto, states: int) -> list[NDArray[Any] | None]:
        """Return what no trip gives: tensors without elements, None where their other sizes are not known."""
        given = node.output[states:]
        axes = _attribute(node, "scan_output_axes", None) or [0] * len(given)
        return [
            self._empty(name, axis) if name else np.zeros(0) for name, axis in zip(given, axes, strict=True)
        ]

    def _empty(self, name: str, axis: int) -> NDArray[Any] | None:
        shape, dtype = self._shapes.get(name), self._dtypes.get(name, 0)
        if shape is None or not dtype:
            return None
        sizes = [0 if at == axis % len(shape) else size for at, size in enumerate(shape)]
        known = [size for size in sizes if isinstance(size, int)]
        return np.zeros(known, helper.tensor_dtype_to_np_dtype(dtype)) if len(known) == len(sizes) else None

    def _joined(self, node: NodeProto, number: int, parts: Sequence[str], output: str) -> Iterator[NodeProto]:
        axes = _attribute(node, "scan_output_axes", None)
        turned = _attribute(node, "scan_output_directions", None)
        axis = axes[number] if axes else 0
        if not parts:
            yield helper.make_node("Identity", [self._constant(self._empty(output, axis))], [output])
            return
        wide = []
        for part in parts[::-1] if turned and turned[number] else parts:
            wide.append(self._name(node, "wide"))
            written = form("Unsqueeze", self._opset, {"axes": [axis]})
            inputs = [part, *(self._constant(value) for value in written.inputs.values())]
            yield helper.make_node("Unsqueeze", inputs, [wide[-1]], **written.attributes)
        yield helper.make_node("Concat", wide, [output], axis=axis)

    def _name(self, node: NodeProto, what: str) -> str:
        return fresh(f"{node.name}/{what}", self._taken)

    def _constant(self, value: Any) -> str:
        name = fresh("unrolled/constant", self._taken)
        array = np.asarray(value)
        self._graph.initializer.append(from_array(array, name))
        return name


def _made(body: GraphProto) -> Iterator[str]:
    """Yield what the nodes of a body and of those inside make, and the inputs of those inside."""
    for node in body.node:
        yield from filter(None, node.output)
        for inner in bodies(node):
            yield from (value.name for value in inner.input)
            yield from _made(inner)


def _count(body: GraphProto) -> int:
    return sum(1 for _ in nodes_inside(body.node))


def _attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((attribute_value(each) for each in node.attribute if each.name == name), default)

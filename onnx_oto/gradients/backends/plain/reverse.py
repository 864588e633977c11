"""Reverse mode: the graph read backwards, each node by its entry in the table."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_oto.gradients.backends.plain.back import Back, Known, Once, Shape
from onnx_oto.gradients.backends.plain.kernels import forward_node, gradient_node, leave_out_unread
from onnx_oto.gradients.backends.plain.table import TABLE, Entry
from onnx_oto.gradients.graph.lowering.engine import path
from onnx_oto.gradients.graph.lowering.lowerings import key
from onnx_oto.gradients.graph.static_types import constants, types
from onnx_oto.model.graph.node import Node, opset_of, read_nodes, set_opset
from onnx_oto.model.graph.writer import GraphWriter

_PREFIX = "onnx_oto.plain"
_LEAST_OPSET = 16
"""Since when Scatter adds up."""


def differentiate(
    graph: onnx.ModelProto, wanted: Sequence[str], *, on_cpu: bool = True, kernels: bool = False
) -> tuple[onnx.ModelProto, dict[str, Shape]]:
    """Return `graph` with `<name>_grad` for each of `wanted` behind its outputs; see `Backend`, `Known`.

    And, with `kernels`, the static shapes of what nodes make that inference does not know.
    """
    model = onnx.ModelProto()
    model.CopyFrom(graph)
    _modern(model)
    _complete(model)
    found = types(model)
    known = Known(
        shapes={name: kind.static for name, kind in found.items() if kind.static is not None},
        ranks={name: len(kind.shape) for name, kind in found.items() if kind.shape is not None},
        dtypes={name: kind.dtype for name, kind in found.items()},
        constants={name: value for name, value in constants(model).items() if name not in wanted},
        opset=opset_of(model),
        on_cpu=on_cpu,
        kernels=kernels,
    )
    walk = _Walk(model, known, wanted)
    gradients = walk.back(model.graph.output[0].name)
    walk.writer.write_to(model.graph)
    for name in wanted:
        _give_out(model.graph, gradients[name], f"{name}_grad", known.shapes[name])
    leave_out_unread(model.graph)
    return model, walk.shapes


def _modern(model: onnx.ModelProto) -> None:
    """Make an opset that is older than additions by Scatter a newer one, in place: 16 changed types and a default."""
    if opset_of(model) >= _LEAST_OPSET:
        return
    for node in model.graph.node:
        given = {each.name for each in node.attribute}
        if node.op_type == "RoiAlign" and "coordinate_transformation_mode" not in given:
            node.attribute.append(
                helper.make_attribute("coordinate_transformation_mode", "output_half_pixel")
            )
    set_opset(model, _LEAST_OPSET)


def _complete(model: onnx.ModelProto) -> None:
    """Name the outputs that gradients read, in place."""
    for node in model.graph.node:
        entry = TABLE.get(key(node))
        for place in range(1, entry.outputs if entry else 1):
            name = f"{node.output[0]}.{place}"
            if place >= len(node.output):
                node.output.append(name)
            elif not node.output[place]:
                node.output[place] = name


def _give_out(graph: onnx.GraphProto, made: str, name: str, shape: tuple[int, ...]) -> None:
    graph.node.append(helper.make_node("Identity", [made], [name], name=name))
    graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))


class _Walk:
    """The gradients that have arrived at each tensor, and the writer of more."""

    def __init__(self, model: onnx.ModelProto, known: Known, wanted: Sequence[str]) -> None:
        self._known = known
        self._wanted = wanted
        self._nodes = read_nodes(model)
        self._path = path(model, wanted, types(model))
        self._carried = {*wanted, *(name for at in self._path for name in self._nodes[at].outputs)}
        self._arrived: dict[str, list[str]] = defaultdict(list)
        self._kept: dict[int, Sequence[str]] = {}
        self.shapes: dict[str, Shape] = {}
        self._write_forms(model.graph)
        self.writer = GraphWriter(known.opset, f"{_PREFIX}.back")
        self._once = Once(self.writer)

    def _write_forms(self, graph: onnx.GraphProto) -> None:
        writer = GraphWriter(self._known.opset, f"{_PREFIX}.forth")
        once = Once(writer)
        nodes: list[onnx.NodeProto] = []
        for node, proto in zip(self._nodes, graph.node, strict=True):
            entry = TABLE.get(key(proto))
            made = self._form(Back(node, self._known, once), entry)
            if not made:
                nodes.append(proto)
                continue
            nodes += writer.nodes
            writer.nodes = []
            ends = zip(made, node.outputs, strict=False)
            nodes += [helper.make_node("Identity", [new], [old], name=old) for new, old in ends if old]
            self._kept[node.index] = made[len(node.outputs) :]
        del graph.node[:]
        graph.node.extend(nodes)
        writer.write_to(graph)
        self.shapes.update(once.shapes)

    def _form(self, back: Back, entry: Entry | None) -> Sequence[str]:
        """Return what takes the place of the outputs of a node; nothing where it stays."""
        if entry is None or entry.form is None:
            return ()
        return (forward_node(back) if self._known.kernels else ()) or entry.form(back)

    def back(self, loss: str) -> dict[str, str]:
        """Return the gradient of the loss with respect to each tensor that is wanted."""
        self._arrived[loss].append(self._once.value(1.0, np.float32))
        for at in sorted(self._path, reverse=True):
            node = self._nodes[at]
            dys = [self._total(name) for name in node.outputs]
            if any(dys):
                self._pass(node, dys)
        self.shapes.update(self._once.shapes)
        return {name: self._total(name) or self._nothing(name) for name in self._wanted}

    def _pass(self, node: Node, dys: Sequence[str | None]) -> None:
        """Let the gradients of what a node reads arrive there."""
        entry = TABLE[node.op]
        back = Back(node, self._known, self._once, dys, self._kept.get(node.index, ()))
        dy = dys[0] or back.zeros(node.outputs[0])
        parts = gradient_node(back, dy) if self._known.kernels else None
        for name, part in zip(node.inputs, parts or entry.write(back, dy), strict=False):
            if part is None or name not in self._carried:
                continue
            if entry.broadcasts:
                part = back.fit(part, node.outputs[0], name)
            self._arrived[name].append(part)

    def _total(self, name: str) -> str | None:
        """Return the sum of what has arrived at a tensor."""
        parts = self._arrived.get(name, [])
        if len(parts) < 2:
            return parts[0] if parts else None
        return self._once.emit_many("Sum", parts, 1, {})[0]

    def _nothing(self, name: str) -> str:
        return self._once.value(np.zeros(self._known.shapes[name]), np.float32)

"""Sequences that only carry the parts of a split: written as a Split."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, helper

from onnx_oto.model.graph.forms import form
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.order import captured
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.shapes.dims import Shape
from onnx_oto.model.shapes.inference import small_constants

MOST_PARTS = 1024
"""Into how many parts a tensor is written as split at most; exporters write some ten."""


def split_sequences(
    model: ModelProto, values: Mapping[str, np.ndarray], shapes: Mapping[str, Shape | None]
) -> bool:
    """Replace SplitToSequence by Split where every reader is a SequenceAt at a known position; in place.

    values, shapes: what is known of tensors beside initializers, by name. Return whether anything changed.
    """
    graph, opset = model.graph, opset_of(model)
    readers_of = _readers(graph)
    if not readers_of:
        return False
    known = {**small_constants(model), **values}
    outputs = {value.name for value in graph.output}
    changed = False
    for index, node in enumerate(graph.node):
        if node.op_type != "SplitToSequence" or node.domain not in ("", "ai.onnx"):
            continue
        readers = readers_of.get(node.output[0], [])
        sizes = _sizes(node, known, shapes)
        positions = [known.get(n.input[1]) if n.op_type == "SequenceAt" else None for n in readers]
        if sizes is None or not readers or any(p is None or p.dtype == object for p in positions):
            continue
        if node.output[0] in outputs:
            continue
        picked = [int(p.reshape(-1)[0]) % len(sizes) for p in positions if p is not None]
        names = [f"{node.output[0]}__part{i}" for i in range(len(sizes))]
        axis = next((a.i for a in node.attribute if a.name == "axis"), 0)
        written = form("Split", opset, {"split": sizes, "axis": axis})
        inputs = [node.input[0]]
        for value in written.inputs.values():
            inputs.append(f"{node.output[0]}__sizes")
            graph.initializer.append(from_array(value, inputs[-1]))
        graph.node[index].CopyFrom(
            helper.make_node(
                "Split", inputs, names, name=node.name, doc_string=node.doc_string, **written.attributes
            )
        )
        for reader, position in zip(readers, picked, strict=True):
            part = helper.make_node("Identity", [names[position]], list(reader.output), name=reader.name)
            reader.CopyFrom(part)
        changed = True
    return changed


def _readers(graph: GraphProto) -> dict[str, list[NodeProto]]:
    """Return the nodes that read each sequence that a SplitToSequence makes, in bodies too."""
    found: dict[str, list[NodeProto]] = {
        node.output[0]: [] for node in graph.node if node.op_type == "SplitToSequence"
    }
    for node in graph.node if found else ():
        for name in {*node.input, *captured(node)}:
            if name in found:
                found[name].append(node)
    return found


def _sizes(
    node: NodeProto, values: Mapping[str, np.ndarray], shapes: Mapping[str, Shape | None]
) -> list[int] | None:
    """Return the sizes of the parts, None if they are not known or the axis would vanish."""
    shape = shapes.get(node.input[0])
    attributes = {a.name: a.i for a in node.attribute}
    if shape is None or len(node.input) < 2 or not node.input[1]:
        return None
    split = values.get(node.input[1])
    axis = attributes.get("axis", 0)
    total = shape[axis] if -len(shape) <= axis < len(shape) else None
    if split is None or split.dtype == object or not isinstance(total, int):
        return None
    if split.ndim:
        return [int(s) for s in split.reshape(-1)]
    size = int(split)
    if size <= 0 or total > size * MOST_PARTS:
        return None
    return [min(size, total - start) for start in range(0, total, size)]

"""If nodes whose condition is known: the branch that is taken becomes part of the graph.

Exporters write such an If where the original program asked for a size, for instance in `squeeze`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto

from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.order import initializer_names
from onnx_oto.model.graph.tensors import densify, to_array
from onnx_oto.model.normal.lifted import rename


def take_known_branches(graph: GraphProto, values: Mapping[str, np.ndarray]) -> bool:
    """Replace every If of a known condition by its branch, in place; say if there was one.

    `values` are computed values by name; initializers of the graph count as well. Names of the branch that
    the graph has already are changed. The nodes stay in topological order.
    """
    if not any(node.op_type == "If" for node in graph.node):
        return False
    taken = all_names(graph)
    stored = {tensor.name: tensor for tensor in graph.initializer}
    nodes: list[NodeProto] = []
    found = False
    waiting = list(reversed(graph.node))
    while waiting:
        node = waiting.pop()
        branch = _known_branch(node, stored, values)
        if branch is None:
            nodes.append(node)
            continue
        found = True
        waiting.extend(reversed(_inline(node, branch, graph, taken)))
    if found:
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    return found


def _known_branch(
    node: NodeProto, stored: Mapping[str, TensorProto], values: Mapping[str, np.ndarray]
) -> GraphProto | None:
    if node.op_type != "If" or node.domain:
        return None
    condition = values.get(node.input[0])
    if condition is None and node.input[0] in stored:
        condition = to_array(stored[node.input[0]])
    if condition is None or condition.dtype == object or condition.size != 1:
        return None
    wanted = "then_branch" if bool(condition.reshape(-1)[0]) else "else_branch"
    return next((attr.g for attr in node.attribute if attr.name == wanted), None)


def _inline(node: NodeProto, branch: GraphProto, graph: GraphProto, taken: set[str]) -> list[NodeProto]:
    body = GraphProto()
    body.CopyFrom(branch)
    made = {name for inner in body.node for name in inner.output if name}
    names: dict[str, str] = {}
    extra = []
    for value, outer in zip(body.output, node.output, strict=False):
        if outer and value.name in made:
            names[value.name] = outer
        elif outer:
            extra.append((value.name, outer))
    for name in sorted((made | set(initializer_names(body))) - names.keys()):
        if name in taken:
            names[name] = fresh(f"{name}__branch", taken)
        taken.add(name)
    rename(body, names)
    for tensor in [*body.initializer, *(densify(sparse) for sparse in body.sparse_initializer)]:
        graph.initializer.add().CopyFrom(tensor)
    links = [onnx.helper.make_node("Identity", [names.get(inner, inner)], [outer]) for inner, outer in extra]
    return [*body.node, *links]

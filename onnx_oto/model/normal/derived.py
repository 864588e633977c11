"""Weights that the graph computes from other weights (weight standardisation, weight norm), put in as weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from onnx_oto.model.graph.budget import EVALUATION, Budget
from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.node import read_node, read_opsets
from onnx_oto.model.graph.order import bodies, captured, drop_dead
from onnx_oto.model.graph.tensors import (
    FLOATS,
    bits_per_element,
    byte_count,
    element_count,
    from_array,
    is_external,
    to_array,
)
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.shapes.dims import known_size
from onnx_oto.model.shapes.inference import Knowledge
from onnx_oto.model.shapes.reference import NOT_REPEATABLE, evaluate_constant

_NORMS = (
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
    *("LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "Hardmax"),
)
_RECURRENT = ("LSTM", "GRU", "RNN")
"""Operators whose gates are told apart on the axes of a weight itself."""


def fold_derived(model: ModelProto, knowledge: Knowledge, origins: Origins | None = None) -> None:
    """Turn a tensor that is computed from initializers alone into one, if a reduction or a norm takes part in it, or
    a recurrent layer reads it.

    In place; nodes and weights that are needed no more go. A mean over an axis of a weight needs every position of
    that axis for good, while of the weight that comes out of it any position may go. It takes the name of the only
    weight of its size that it was computed from, which `origins` gets to know. What only moves, scales or multiplies
    weights stays in the graph, and so does what would take more space than what it is computed from.
    """
    graph = model.graph
    nodes = list(constant_nodes(graph, (tensor.name for tensor in graph.initializer)))
    made_by = {name: node for node in nodes for name in node.output if name}
    if not made_by:
        return
    place = {id(node): index for index, node in enumerate(nodes)}
    wanted = _normalised(nodes) | _recurrent_weights(graph)
    outputs = {value.name for value in graph.output}
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    taken = all_names(graph)
    budget = Budget()
    sources_of: dict[str, str] = {}
    for name in sorted(_read_by_others(graph, made_by) & wanted - outputs):
        cone = _cone(name, made_by, place)
        sources = {i: initializers[i] for node in cone for i in node.input if i in initializers}
        tensor = _evaluate(name, cone, sources, model, knowledge, budget)
        if tensor is not None:
            graph.initializer.append(tensor)
            initializers[name] = tensor
            _release(made_by.pop(name), name, fresh(f"{name}__computed", taken))
            same = [s for s, source in sources.items() if element_count(source) == element_count(tensor)]
            if len(same) == 1:
                sources_of[name] = same[0]
    drop_dead(graph)
    renamed = _give_names(graph, sources_of)
    origins = Origins() if origins is None else origins
    for name, source in sources_of.items():
        origins.folded(renamed.get(name, name), source)


def constant_nodes(graph: GraphProto, constants: Iterable[str]) -> Iterator[NodeProto]:
    """Yield the nodes of a sorted graph that compute the same, from some constants, whenever the model runs."""
    known = {*constants, ""}
    for node in graph.node:
        fixed = not node.domain and node.op_type not in NOT_REPEATABLE and not any(bodies(node))
        if fixed and node.input and known.issuperset(node.input):
            known.update(node.output)
            yield node


def _normalised(nodes: Iterable[NodeProto]) -> set[str]:
    """Return the outputs of sorted nodes that a reduction or a norm takes part in."""
    found: set[str] = set()
    for node in nodes:
        mixes = node.op_type.startswith("Reduce") or node.op_type in _NORMS
        if mixes or not found.isdisjoint(node.input):
            found.update(name for name in node.output if name)
    return found


def _recurrent_weights(graph: GraphProto) -> set[str]:
    return {name for node in graph.node if node.op_type in _RECURRENT for name in node.input}


def _read_by_others(graph: GraphProto, made_by: Mapping[str, NodeProto]) -> set[str]:
    """Return the constant tensors that nodes read which are not constant themselves."""
    inside = {id(node) for node in made_by.values()}
    others = (node for node in graph.node if id(node) not in inside)
    return {name for node in others for name in (*node.input, *captured(node)) if name in made_by}


def _cone(name: str, made_by: Mapping[str, NodeProto], place: Mapping[int, int]) -> list[NodeProto]:
    """Return the nodes that `name` is computed by, in order. place: where a node stands, by its id."""
    found: dict[int, NodeProto] = {}
    needed = [name]
    while needed:
        node = made_by.get(needed.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            needed.extend(node.input)
    return sorted(found.values(), key=lambda node: place[id(node)])


def _evaluate(
    name: str,
    cone: Sequence[NodeProto],
    sources: Mapping[str, TensorProto],
    model: ModelProto,
    knowledge: Knowledge,
    budget: Budget,
) -> TensorProto | None:
    """Return the value of a tensor, without payload if those of its sources are not loaded; None: leave it.

    What is made on the way is known in size before, and may be as large as eight times the sources without a share of
    the budget.
    """
    empty = TensorProto(
        name=name, data_type=knowledge.dtypes.get(name, 0), data_location=TensorProto.EXTERNAL
    )
    shape = knowledge.shapes.get(name)
    if shape is None or empty.data_type not in FLOATS:
        return None
    for size in shape:
        if not isinstance(size, int):
            return None
        empty.dims.append(size)
    given = sum(byte_count(tensor) for tensor in sources.values())
    made = _bytes_made(cone, knowledge)
    if byte_count(empty) > given or made is None:
        return None
    if any(is_external(tensor) for tensor in sources.values()):
        return empty
    if not budget.take(max(0, made - 8 * given) + EVALUATION * len(cone)):
        return None
    opsets = read_opsets(model)
    values = {source: to_array(tensor) for source, tensor in sources.items()}
    for index, proto in enumerate(cone):
        node = read_node(proto, index, opsets)
        results = evaluate_constant(node, [values.get(i) for i in node.inputs])
        values |= {n: value for n, value in zip(node.outputs, results, strict=False) if value is not None}
    value = values.get(name)
    return None if value is None or not np.isfinite(value).all() else from_array(value, name)


def _bytes_made(cone: Iterable[NodeProto], knowledge: Knowledge) -> int | None:
    """Return how many bytes all outputs of nodes take together, None where that is not known."""
    total = 0
    for name in (name for node in cone for name in node.output if name):
        count = known_size(knowledge.shapes.get(name))
        if count is None:
            return None
        total += count * bits_per_element(knowledge.dtypes.get(name, TensorProto.DOUBLE)) // 8
    return total


def _release(node: NodeProto, name: str, other: str) -> None:
    """Let a node give its output another name: an initializer has taken this one."""
    for i, output in enumerate(node.output):
        if output == name:
            node.output[i] = other


def _give_names(graph: GraphProto, names: dict[str, str]) -> dict[str, str]:
    """Rename initializers where the new name is free and no body reads the old one; return new names by old."""
    inside = {name for node in graph.node for name in captured(node)}
    used = {tensor.name for tensor in graph.initializer} | inside
    names = {old: new for old, new in names.items() if old not in inside and new not in used}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    return names

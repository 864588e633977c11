"""Weights that the graph computes from other weights (weight standardisation, weight norm), put in as weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto
from onnx.reference import ReferenceEvaluator

from onnx_oto.model.names import all_names, fresh
from onnx_oto.model.order import bodies, captured, drop_dead
from onnx_oto.model.shapes import Knowledge
from onnx_oto.model.tensors import FLOATS, byte_count, element_count, from_array, is_external

_NORMS = (
    *("BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization"),
    *("LpNormalization", "MeanVarianceNormalization", "RMSNormalization", "Softmax", "LogSoftmax", "Hardmax"),
)
_WANT_WEIGHTS = frozenset({"LSTM", "GRU", "RNN"})
"""Operators whose gates are told apart on the axes of a weight itself."""
_RANDOM = (
    "RandomNormal",
    "RandomUniform",
    "RandomNormalLike",
    "RandomUniformLike",
    "Bernoulli",
    "Multinomial",
)


def fold_derived(model: ModelProto, knowledge: Knowledge) -> None:
    """Turn a tensor that is computed from initializers alone into one, if a reduction or a norm takes part in it, or
    a recurrent layer reads it.

    In place; nodes and weights that are needed no more go. A mean over an axis of a weight needs every position of
    that axis for good, while of the weight that comes out of it any position may go. It takes the name of the only
    weight of its size that it was computed from. What only moves, scales or multiplies weights stays in the graph,
    and so does what would take more space than what it is computed from.
    """
    made_by = {name: node for node in _constant_nodes(model.graph) for name in node.output if name}
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    outputs = {value.name for value in model.graph.output}
    taken = all_names(model.graph)
    origins: dict[str, str] = {}
    read = _read_by_others(model.graph, made_by)
    for name in sorted(read.keys() - outputs):
        cone = _cone(name, made_by)
        mixes = any(node.op_type.startswith("Reduce") or node.op_type in _NORMS for node in cone)
        if not mixes and not read[name] & _WANT_WEIGHTS:
            continue
        sources = [
            initializers[i] for i in dict.fromkeys(i for n in cone for i in n.input) if i in initializers
        ]
        tensor = _evaluate(name, cone, sources, model, knowledge)
        if tensor is not None:
            model.graph.initializer.append(tensor)
            _release(made_by[name], name, fresh(f"{name}__computed", taken))
            same = [s.name for s in sources if element_count(s) == element_count(tensor)]
            if len(same) == 1:
                origins[name] = same[0]
    drop_dead(model.graph)
    _give_names(model.graph, origins)


def _constant_nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield the nodes of a sorted graph that compute the same whenever the model runs."""
    known = {tensor.name for tensor in graph.initializer} | {""}
    for node in graph.node:
        fixed = not node.domain and node.op_type not in _RANDOM and not any(bodies(node))
        if fixed and node.input and known.issuperset(node.input):
            known.update(node.output)
            yield node


def _read_by_others(graph: GraphProto, made_by: dict[str, NodeProto]) -> dict[str, set[str]]:
    """Return the constant tensors that nodes read which are not constant themselves, with those nodes' operators."""
    inside = {id(node) for node in made_by.values()}
    found: dict[str, set[str]] = {}
    for node in graph.node:
        if id(node) not in inside:
            for name in (*node.input, *captured(node)):
                if name in made_by:
                    found.setdefault(name, set()).add(node.op_type)
    return found


def _cone(name: str, made_by: dict[str, NodeProto]) -> list[NodeProto]:
    """Return the nodes that `name` is computed by, in order."""
    found: dict[int, NodeProto] = {}
    done: set[int] = set()
    pending = [made_by[name]]
    while pending:
        node = pending[-1]
        sources = [made_by[i] for i in node.input if i in made_by and id(made_by[i]) not in found]
        if sources and id(node) not in done:
            done.add(id(node))
            pending += sources
        else:
            found[id(node)] = pending.pop()
    return list(found.values())


def _evaluate(
    name: str, cone: Iterable[NodeProto], sources: list[TensorProto], model: ModelProto, knowledge: Knowledge
) -> TensorProto | None:
    """Return the value of a tensor, without payload if those of its sources are not loaded; None: leave it."""
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
    if byte_count(empty) > sum(byte_count(tensor) for tensor in sources):
        return None
    if any(is_external(tensor) for tensor in sources):
        return empty
    result = onnx.helper.make_empty_tensor_value_info(name)
    graph = onnx.helper.make_graph(list(cone), "weights", [], [result], sources)
    try:
        with np.errstate(all="ignore"):
            (value,) = ReferenceEvaluator(
                onnx.helper.make_model(graph, opset_imports=model.opset_import)
            ).run(None, {})
    except Exception:  # the reference implementation raises anything for what it does not cover
        return None
    if not isinstance(value, np.ndarray) or not np.isfinite(value).all():
        return None
    return from_array(value, name)


def _release(node: NodeProto, name: str, other: str) -> None:
    """Let a node give its output another name: an initializer has taken this one."""
    for i, output in enumerate(node.output):
        if output == name:
            node.output[i] = other


def _give_names(graph: GraphProto, names: dict[str, str]) -> None:
    """Rename initializers where the new name is free and no body reads the old one."""
    inside = {name for node in graph.node for name in captured(node)}
    used = {tensor.name for tensor in graph.initializer} | inside
    names = {old: new for old, new in names.items() if old not in inside and new not in used}
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)

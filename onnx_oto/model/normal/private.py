"""Copies for readers that have nothing to do with each other, so that sharing does not tie their channels."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from functools import cache

from onnx import ModelProto, NodeProto, TensorProto

from onnx_oto.model.graph.budget import Budget
from onnx_oto.model.graph.names import all_names, fresh
from onnx_oto.model.graph.order import captured, nested
from onnx_oto.model.graph.tensors import FLOATS, byte_count, is_external, to_array
from onnx_oto.model.normal.origins import Origins
from onnx_oto.model.shapes.inference import Knowledge

MOST_FILLS = 256
_VIEWS = frozenset({"Slice", "Reshape", "Transpose", "Unsqueeze", "Squeeze", "Expand", "Identity"})


def private_vectors(model: ModelProto, origins: Origins | None = None) -> None:
    """Give every further use of a vector-like initializer a clone named ``<name>__use<k>``, in place.

    Exporters merge equal biases and scales of different layers, which would tie layers that have nothing to
    do with each other. Vector-like: more than one element and at most one axis longer than 1. Matrices stay
    shared (tied weights), and so does what a body reads, and what would take more than the budget for copies. Nodes
    that read the same matrix, too, or the same running mean, are one layer that is used several times: they read one
    vector.

    `origins` gets to know whether a clone is the same parameter, which training keeps equal, or only had the same
    value: a vector of one repeated number (fresh biases and scales are zeros and ones) is what exporters merge.
    """
    graph = model.graph
    nodes = list(graph.node)
    reads = [list(node.input) for node in nodes]
    uses = Counter(itertools.chain.from_iterable(reads))
    vectors = {name: t for t in graph.initializer if uses[name := t.name] > 1 and _is_vector(t)}
    if not vectors:
        return
    telling = _Telling(model)
    fixed = _fixed(model)
    taken = all_names(graph)
    budget = Budget()
    uniform = cache(lambda name: _is_uniform(vectors[name]))
    seen: set[str] = set()
    of_layer: dict[tuple[object, ...], str] = {}
    for node, names in zip(nodes, reads, strict=True):
        if vectors.keys().isdisjoint(names):
            continue
        told = [n if telling[n] else "" for n in names]
        layer = (node.op_type, node.domain, *told)
        is_told = any(told)
        for position, name in enumerate(names):
            if name not in vectors or name in fixed:
                continue
            use, read = (*layer, position, name), name
            if use in of_layer and is_told:
                node.input[position] = read = of_layer[use]
            elif name in seen and budget.take(byte_count(vectors[name])):
                read = fresh(f"{name}__use", taken)
                copy = graph.initializer.add()
                copy.CopyFrom(vectors[name])
                copy.name = read
                node.input[position] = read
                if origins is not None:
                    origins.copied(read, name, apart=uniform(name))
            seen.add(name)
            of_layer.setdefault(use, read)


class _Telling(dict[str, bool]):
    """Whether a tensor tells layers apart: a matrix, or a running mean that is not uniform. Each is looked at once."""

    def __init__(self, model: ModelProto) -> None:
        super().__init__()
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}
        self._means = set(_running_means(model))

    def __missing__(self, name: str) -> bool:
        tensor = self._initializers.get(name)
        result = tensor is not None and (
            sum(size > 1 for size in tensor.dims) > 1
            or (name in self._means and _is_vector(tensor) and not _is_uniform(tensor))
        )
        self[name] = result
        return result


def private_fills(model: ModelProto, knowledge: Knowledge) -> None:
    """Give every further reader of a tensor that is filled with one number a fill of its own, in place.

    Exporters make one tensor of zeros and slice it into the initial states of several layers. Only tensors of floats
    with an axis of known size, which may carry channels; at most MOST_FILLS copies are made.
    """
    graph = model.graph
    nodes = [node for node in graph.node if node.op_type == "ConstantOfShape" or node.op_type in _VIEWS]
    numbers = {t.name for t in graph.initializer if all(size == 1 for size in t.dims)} if nodes else set()
    fills: set[str] = set()
    for node in nodes:
        filled = node.op_type == "ConstantOfShape" or (
            node.op_type in _VIEWS and (node.input[0] in fills or node.input[0] in numbers)
        )
        if filled and not node.domain and _may_carry(node.output[0], knowledge):
            fills.add(node.output[0])
    if not fills:
        return
    fixed = _fixed(model)
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in graph.node:
        _note(readers, node)
    taken, made = all_names(graph), 0
    nodes = []
    for node in reversed(graph.node):
        name = node.output[0] if node.output else ""
        if name in fills and name not in fixed:
            for reader, position in readers.get(name, [])[1:]:
                if made == MOST_FILLS:
                    break
                made += 1
                clone = NodeProto()
                clone.CopyFrom(node)
                clone.name = ""
                clone.output[0] = reader.input[position] = fresh(f"{name}__use", taken)
                _note(readers, clone)
                nodes.append(clone)
        nodes.append(node)
    if made:
        ordered = [_copy(node) for node in reversed(nodes)]
        del graph.node[:]
        graph.node.extend(ordered)


def _copy(node: NodeProto) -> NodeProto:
    result = NodeProto()
    result.CopyFrom(node)
    return result


def _note(readers: dict[str, list[tuple[NodeProto, int]]], node: NodeProto) -> None:
    for position, name in enumerate(node.input):
        readers.setdefault(name, []).append((node, position))


def _fixed(model: ModelProto) -> set[str]:
    """Return the tensors that outputs or bodies read: no other name will do."""
    inside = {name for node in nested(model.graph.node) for name in captured(node)}
    return inside | {value.name for value in model.graph.output}


def _may_carry(name: str, knowledge: Knowledge) -> bool:
    shape = knowledge.shapes.get(name) or ()
    return knowledge.dtypes.get(name) in FLOATS and any(isinstance(n, int) and n > 1 for n in shape)


def _running_means(model: ModelProto) -> Iterator[str]:
    for node in model.graph.node:
        if node.op_type == "BatchNormalization" and not node.domain:
            yield node.input[3]


def _is_uniform(tensor: TensorProto) -> bool:
    """Return whether all elements of a loaded tensor are the same number."""
    if is_external(tensor):
        return False
    values = to_array(tensor).reshape(-1)
    return bool((values == values[0]).all())


def _is_vector(tensor: TensorProto) -> bool:
    longer = [size for size in tensor.dims if size > 1]
    return len(longer) == 1 and all(size > 0 for size in tensor.dims)

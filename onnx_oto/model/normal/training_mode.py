"""Models that were exported in training mode, brought to the form in which they are used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto

from onnx_oto.model.graph.constants import constants, is_constant
from onnx_oto.model.graph.node import opset_of, standard_domain
from onnx_oto.model.graph.order import captured, delete, graphs
from onnx_oto.model.graph.tensors import is_external, to_array

_MODE_ATTRIBUTE, _MODE_INPUT, _NO_TEST_MODE = 14, 12, 7
"""Since these opsets BatchNormalization and Dropout say that they train; up to the last, that they do not."""
_PASSING = ("Cast", "CastLike", "Identity", "Reshape", "Squeeze", "Unsqueeze", "Expand")
_SCALING = ("Mul", "Div")
_LESS, _GREATER = ("Less", "LessOrEqual"), ("Greater", "GreaterOrEqual")
_CLOSE = 1e-4
RANDOM_FACTOR = "random factor"


def leave_training(model: ModelProto) -> Counter[str]:
    """Bring what runs in training mode to inference form, in place; return how many nodes of each operator were.

    - BatchNormalization reads its running statistics. Not where its updated statistics are read or are outputs of the
      model, and not where its running ones are no weights but constants that an exporter made up: a layer that keeps
      none uses those of the batch wherever it runs.
    - Dropout whose `training_mode` is a constant keeps everything, unless its mask is read. It stays a Dropout.
    - A product with a random factor of 0 or 1 that is scaled to the mean 1 (stochastic depth, whole channels dropped)
      gives way to the other factor.

    Constants may still be nodes, and functions should be inlined.
    """
    opset = opset_of(model)
    found: Counter[str] = Counter()
    read = _read(model.graph)
    outermost = _Scope(model.graph, {})
    for place, graph in enumerate(graphs(model.graph)):
        scope = _Scope(graph, outermost.scalars) if place else outermost
        for node in graph.node:
            if standard_domain(node.domain):
                continue
            if node.op_type == "BatchNormalization":
                done = _use_running_statistics(node, opset, read, scope)
            else:
                done = node.op_type == "Dropout" and _keep_everything(node, opset, read, scope)
            found[node.op_type] += done
        found[RANDOM_FACTOR] += _leave_out_factors(graph, scope)
    return +found


def told_training(found: Mapping[str, int]) -> tuple[str, ...]:
    """Return a sentence about what `leave_training` found, none if it found nothing."""
    if not found:
        return ()
    parts = [f"{count} {_plural(name, count)}" for name, count in sorted(found.items())]
    listed = " and ".join(filter(None, [", ".join(parts[:-1]), parts[-1]]))
    used = {
        "BatchNormalization": "statistics of the batch",
        "Dropout": "Dropout",
        RANDOM_FACTOR: "no random factors",
    }
    again = ", ".join(text for name, text in used.items() if name in found)
    return (f"layers in training mode: {listed}, brought to inference form (`train` uses {again})",)


def _plural(name: str, count: int) -> str:
    return f"{name}s" if name == RANDOM_FACTOR and count > 1 else name


def _read(graph: GraphProto) -> set[str]:
    """Return every name that a node reads or a graph, bodies included, gives out."""
    every = list(graphs(graph))
    read = {name for each in every for node in each.node for name in node.input}
    return read | {value.name for each in every for value in each.output}


class _Scope:
    """What is known of the tensors of one graph. scalars: constants of one element, those of the outermost graph too.

    literals: the results of Constant nodes, which are no weights. makers: nodes by output.
    """

    def __init__(self, graph: GraphProto, outer: Mapping[str, np.ndarray]) -> None:
        self.makers = {name: node for node in graph.node for name in node.output if name}
        self.initializers = {tensor.name for tensor in graph.initializer}
        self.literals = {node.output[0] for node in graph.node if is_constant(node)}
        small = [t for t in constants(graph) if not is_external(t) and all(n == 1 for n in t.dims)]
        self.scalars = {**outer, **{t.name: to_array(t).reshape(()) for t in small}}

    def number(self, name: str) -> float | None:
        """Return the value of a constant of one element, through casts and the like; None for anything else."""
        while name not in self.scalars:
            node = self.makers.get(name)
            if node is None or node.op_type not in _PASSING or node.op_type == "Expand":
                return None
            name = node.input[0]
        value = self.scalars[name]
        return float(value) if value.dtype.kind in "fiubV" else None


def _use_running_statistics(node: NodeProto, opset: int, read: set[str], scope: _Scope) -> bool:
    mode = next((attr for attr in node.attribute if attr.name == "training_mode"), None)
    updated = [name for name in node.output[1:] if name]
    trains = bool(mode and mode.i) if opset >= _MODE_ATTRIBUTE else bool(updated)
    if not trains or not read.isdisjoint(updated) or not scope.literals.isdisjoint(node.input[3:5]):
        return False
    if mode is not None:
        node.attribute.remove(mode)
    del node.output[1:]
    return True


def _keep_everything(node: NodeProto, opset: int, read: set[str], scope: _Scope) -> bool:
    if not read.isdisjoint(name for name in node.output[1:] if name):
        return False
    if opset < _NO_TEST_MODE:
        test = next((attr for attr in node.attribute if attr.name == "is_test"), None)
        if test is not None and test.i:
            return False
        if test is None:
            test = node.attribute.add(name="is_test", type=AttributeProto.INT)
        test.i = 1
    elif opset >= _MODE_INPUT and len(node.input) > 2 and node.input[2]:
        if not scope.number(node.input[2]):
            return False
        del node.input[2:]
    else:
        return False
    del node.output[1:]
    return True


def _leave_out_factors(graph: GraphProto, scope: _Scope) -> int:
    """Let readers of a product with a random factor of mean 1 read the other factor, in place; return how many."""
    fixed = {value.name for value in graph.output} | {name for node in graph.node for name in captured(node)}
    alias: dict[str, str] = {}
    gone, count = [], 0
    for index, node in enumerate(graph.node):
        for position, name in enumerate(node.input):
            node.input[position] = alias.get(name, name)
        rest = _without_factor(node, scope)
        if rest is None:
            continue
        count += 1
        if node.output[0] in fixed:
            node.op_type = "Identity"
            del node.input[:]
            node.input.append(rest)
        else:
            alias[node.output[0]] = rest
            gone.append(index)
    delete(graph.node, gone)
    return count


def _without_factor(node: NodeProto, scope: _Scope) -> str | None:
    """Return the factor of a product whose other one is random with mean 1; None for any other node.

    Where the mean is another one, this factor was divided by it just before: what was divided is returned.
    """
    if standard_domain(node.domain) or node.op_type != "Mul":
        return None
    means = [_mean(name, scope) for name in node.input]
    if (means[0] is None) == (means[1] is None):
        return None
    rest, mean = (node.input[0], means[1]) if means[0] is None else (node.input[1], means[0])
    if mean is not None and abs(mean - 1) <= _CLOSE:
        return None if scope.number(rest) is not None else rest
    scaled = scope.makers.get(rest)
    if scaled is None or scaled.op_type != "Div" or not mean:
        return None
    divisor = scope.number(scaled.input[1])
    return scaled.input[0] if divisor is not None and abs(divisor / mean - 1) <= _CLOSE else None


def _mean(name: str, scope: _Scope) -> float | None:
    """Return the mean of every element of a tensor that is 0 or 1 at random, times constants; None for others."""
    node = scope.makers.get(name)
    if node is None or standard_domain(node.domain):
        return None
    if node.op_type in _PASSING:
        return _mean(node.input[0], scope)
    if node.op_type in _SCALING:
        mean, other = _mean(node.input[0], scope), scope.number(node.input[1])
        if mean is None and node.op_type == "Mul":
            mean, other = _mean(node.input[1], scope), scope.number(node.input[0])
        if mean is None or other is None or (node.op_type == "Div" and not other):
            return None
        return mean * other if node.op_type == "Mul" else mean / other
    return _chance(node, scope)


def _chance(node: NodeProto, scope: _Scope) -> float | None:
    """Return how likely a node that draws 0 or 1 gives 1: a uniform number below a constant, or that rounded down."""
    if node.op_type in (*_LESS, *_GREATER):
        for drawn, other, below in ((0, 1, node.op_type in _LESS), (1, 0, node.op_type in _GREATER)):
            limit = scope.number(node.input[other])
            bounds = _bounds(node.input[drawn], scope)
            if limit is not None and bounds is not None:
                share = min(max((limit - bounds[0]) / (bounds[1] - bounds[0]), 0.0), 1.0)
                return share if below else 1 - share
    if node.op_type == "Floor":
        added = scope.makers.get(node.input[0])
        if added is not None and added.op_type == "Add":
            for place in (0, 1):
                keep = scope.number(added.input[place])
                if keep is not None and 0 <= keep <= 1 and _bounds(added.input[1 - place], scope) == (0, 1):
                    return keep
    return None


def _bounds(name: str, scope: _Scope) -> tuple[float, float] | None:
    """Return the range of a tensor of uniform random numbers."""
    node = scope.makers.get(name)
    while node is not None and node.op_type in _PASSING:
        node = scope.makers.get(node.input[0])
    if node is None or node.op_type not in ("RandomUniform", "RandomUniformLike"):
        return None
    given = {attr.name: attr.f for attr in node.attribute}
    low, high = given.get("low", 0.0), given.get("high", 1.0)
    return (low, high) if low < high else None

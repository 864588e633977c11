"""Evaluation of any other op on constants, by onnx's reference implementation."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from onnx_oto.model.graph.node import Node
from onnx_oto.model.graph.tensors import from_array

NOT_REPEATABLE = frozenset(
    {
        "RandomNormal",
        "RandomUniform",
        "RandomNormalLike",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "Dropout",
    }
)


MAX_PRODUCTS = 2**24
_UNBOUNDED = frozenset(
    {
        *("Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "DeformConv", "Col2Im"),
        *("AveragePool", "MaxPool", "LpPool", "MaxUnpool", "RoiAlign", "MaxRoiPool", "Resize", "Upsample"),
        *("RNN", "GRU", "LSTM", "DFT", "STFT", "LRN", "NonMaxSuppression", "GatherElements"),
    }
)
"""Operators whose settings or values, not their sizes, say how much time and memory the reference takes."""


def evaluate_constant(node: Node, inputs: Sequence[np.ndarray | None]) -> list[np.ndarray | None]:
    """Return the outputs of a standard op whose inputs are all known, [] when it cannot be evaluated.

    The caller must know that the outputs are not too large. Never evaluated: random ops, ops with bodies, and those
    that may take long or much memory whatever they give.
    """
    given = {name: value for name, value in zip(node.inputs, inputs, strict=True) if name}
    if node.op in NOT_REPEATABLE or any(_holds_graph(value) for value in node.attrs.values()):
        return []
    if node.op in _UNBOUNDED or (node.op == "Einsum" and _products(node, inputs) > MAX_PRODUCTS):
        return []
    if any(value is None or value.dtype == object for value in given.values()):
        return []
    wanted = [name for name in node.outputs if name]
    try:
        with np.errstate(all="ignore"):
            found = ReferenceEvaluator(_one_node_model(node, given, wanted)).run(None, given)
    except Exception:
        # The reference implementation raises anything for what it does not cover: then nothing is known.
        return []
    results: dict[str, Any] = dict(zip(wanted, found, strict=True))
    return [r if isinstance(r := results.get(name), np.ndarray) else None for name in node.outputs]


def _products(node: Node, inputs: Sequence[np.ndarray | None]) -> int:
    """Return how many products an Einsum sums, at most."""
    return math.prod(value.size for value in inputs if value is not None)


def _one_node_model(node: Node, given: Mapping[str, Any], wanted: Sequence[str]) -> onnx.ModelProto:
    proto = onnx.helper.make_node(node.op, list(node.inputs), list(node.outputs))
    proto.attribute.extend(_attribute(name, value) for name, value in node.attrs.items())
    graph = onnx.helper.make_graph(
        [proto],
        "one",
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in given],
        [onnx.helper.make_value_info(name, onnx.TypeProto()) for name in wanted],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", node.since)])


def _attribute(name: str, value: Any) -> onnx.AttributeProto:
    if isinstance(value, np.ndarray):
        return onnx.helper.make_attribute(name, from_array(value, name))
    if isinstance(value, list) and not value:
        return onnx.helper.make_attribute(name, value, attr_type=onnx.AttributeProto.INTS)
    return onnx.helper.make_attribute(name, value)


def _holds_graph(value: Any) -> bool:
    items = value if isinstance(value, list) else [value]
    return any(isinstance(item, onnx.GraphProto) for item in items)

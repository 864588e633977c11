"""Operators that jump: a rounding error in front of them may change what comes out beyond any tolerance.

Such an operator is the same in full and compact model. So both are taken apart there: what it reads is compared as an
output, and everything behind it is computed, in both models, from what it gave in the full one. Equal pieces make equal
models; which of two nearly equal scores is the larger is then no difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import ModelProto, TensorProto

from onnx_oto.model import Graph, Node

FLOATS = frozenset({TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16})

JUMPING = frozenset(
    {
        "ArgMax", "ArgMin", "Cast", "Ceil", "DynamicQuantizeLinear", "Equal", "Floor", "Greater", "GreaterOrEqual",
        "Hardmax", "IsInf", "IsNaN", "Less", "LessOrEqual", "Mod", "NonMaxSuppression", "NonZero", "QuantizeLinear",
        "Round", "Shrink", "Sign", "ThresholdedRelu", "TopK", "Unique",
    }
)  # fmt: skip
"""Operators of the standard domain that are discontinuous in an input of floats."""
JUMPING_SECOND = frozenset({"MaxPool"})
"""Operators whose second output is: the place of a maximum."""


def jumps(node: Node, dtypes: dict[str, int]) -> bool:
    """Say whether a node is discontinuous in floats that it reads. A Cast is, when it makes no floats of them."""
    if node.domain or not any(dtypes.get(name) in FLOATS for name in node.inputs):
        return False
    if node.op == "Cast":
        return dtypes.get(node.outputs[0]) not in FLOATS
    if node.op in JUMPING_SECOND:
        return len(node.outputs) > 1 and bool(node.outputs[1])
    return node.op in JUMPING


def common_jumps(full: Graph, compact: Graph, model: ModelProto, small: ModelProto) -> list[Node]:
    """Return the nodes of the full model that jump and are the same in the compact one, shapes included.

    Not those of channels that were cut: what they give has another shape there.
    """
    found = []
    for node in full.nodes:
        other = compact.producer.get(next((name for name in node.outputs if name), ""))
        if other is None or not jumps(node, full.dtypes):
            continue
        if _text(model, node) == _text(small, other) and all(
            _may_equal(full, compact, mine, theirs) and _are_alike(full, compact, mine, theirs)
            for mine, theirs in zip(node.inputs, other.inputs, strict=True)
        ):
            found.append(node)
    return found


def _text(model: ModelProto, node: Node) -> tuple[object, ...]:
    proto = model.graph.node[node.index]
    attributes = sorted((attr.name, attr.SerializeToString()) for attr in proto.attribute)
    return node.op, len(node.inputs), tuple(node.outputs), attributes


def _may_equal(full: Graph, compact: Graph, mine: str, theirs: str) -> bool:
    one, other = full.shape(mine), compact.shape(theirs)
    if one is None or other is None:
        return True
    return len(one) == len(other) and not any(
        isinstance(a, int) and isinstance(b, int) and a != b for a, b in zip(one, other, strict=True)
    )


def _are_alike(full: Graph, compact: Graph, mine: str, theirs: str) -> bool:
    """Say whether two inputs are both computed (and so compared), or the same constant or graph input."""
    if mine in full.producer or theirs in compact.producer:
        return mine in full.producer and theirs in compact.producer
    one, other = full.constant(mine), compact.constant(theirs)
    if one is None or other is None:
        return mine == theirs
    return np.array_equal(one, other)


def sever(model: ModelProto, view: Graph, jumping: Sequence[Node]) -> ModelProto:
    """Return a copy of a model in normal form in which the outputs of some nodes are inputs, the nodes gone.

    Outputs of the graph that those nodes make are gone too.
    """
    result = ModelProto()
    result.CopyFrom(model)
    made = {name for node in jumping for name in node.outputs if name}
    nodes = [node for node in model.graph.node if not made & set(node.output)]
    del result.graph.node[:]
    result.graph.node.extend(nodes)
    for node in jumping:
        for name in node.outputs:
            if name and view.dtypes.get(name):
                result.graph.input.append(onnx.helper.make_tensor_value_info(name, view.dtypes[name], None))
    outputs = [value for value in model.graph.output if value.name not in made]
    del result.graph.output[:]
    result.graph.output.extend(outputs)
    return result

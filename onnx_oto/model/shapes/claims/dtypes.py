"""Operators of the onnx standards that come without shape inference of their own."""

from __future__ import annotations

from collections.abc import Sequence

from onnx import TensorProto

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.claims.table import Claimed, broadcast, foreign
from onnx_oto.model.shapes.dims import Shape


@foreign("ai.onnx.ml", "Imputer", "LabelEncoder")
@foreign("ai.onnx.ml", "Scaler", "Normalizer", dtype=TensorProto.FLOAT)
@foreign("", "GroupNormalization", "MeanVarianceNormalization", "InstanceNormalization")
@foreign("", "BatchNormalization", "Dropout", "PRelu")
@foreign("", "Abs", "Ceil", "Clip", "Elu", "Exp", "Floor", "HardSigmoid", "LeakyRelu", "Log", "Neg")
@foreign("", "Reciprocal", "Relu", "Selu", "Sigmoid", "Sqrt", "Tanh")
@foreign("", "Add", "Sub", "Mul", "Div")
def _as_input(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    """The first output has the shape of the first input; so do the versions of operator sets before 6."""
    return [facts.shape(node, 0)]


@foreign("", "GreaterOrEqual", "LessOrEqual", dtype=TensorProto.BOOL)
def _compare(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    return [broadcast(facts.shape(node, 0), facts.shape(node, 1))]


@foreign("ai.onnx.ml", "LinearRegressor", dtype=TensorProto.FLOAT)
def _regressor(node: Node, facts: Claimed) -> Sequence[Shape | None]:
    source = facts.shape(node, 0)
    return [None if source is None or len(source) != 2 else (source[0], node.attrs.get("targets", 1))]

"""Half precision computed as float32: what training works on, and runtimes that have no kernels for bfloat16."""

from __future__ import annotations

from collections.abc import Collection, Iterable

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from onnx_oto.model.graph.order import graphs

HALVES = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def uses(model: ModelProto, kinds: Collection[int]) -> bool:
    """Return whether a tensor of the model is stored or declared as one of these types, or cast to it."""
    every = list(graphs(model.graph))
    nodes = [node for graph in every for node in graph.node]
    stored = any(tensor.data_type in kinds for graph in every for tensor in graph.initializer)
    declared = any(
        value.type.tensor_type.elem_type in kinds
        for graph in every
        for value in (*graph.input, *graph.output)
    )
    cast = any(
        _names_type(attr, kinds) or attr.t.data_type in kinds for node in nodes for attr in node.attribute
    )
    return stored or declared or cast


def in_float32(model: ModelProto, kinds: Collection[int] = HALVES) -> ModelProto:
    """Return a copy of the model with float32 wherever it has one of these types, inputs and outputs included.

    Names stay. What was rounded to half precision between operators is no longer.
    """
    result = ModelProto()
    result.CopyFrom(model)
    _widen_graph(result.graph, kinds)
    for function in result.functions:
        _widen_nodes(function.node, kinds)
    return result


def _widen_graph(graph: GraphProto, kinds: Collection[int]) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor, kinds)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type, kinds)
    _widen_nodes(graph.node, kinds)


def _widen_nodes(nodes: Iterable[NodeProto], kinds: Collection[int]) -> None:
    for node in nodes:
        for attr in node.attribute:
            if _names_type(attr, kinds):
                attr.i = TensorProto.FLOAT
            elif attr.type == AttributeProto.TENSOR:
                _widen_tensor(attr.t, kinds)
            elif attr.type == AttributeProto.GRAPH:
                _widen_graph(attr.g, kinds)
            for body in attr.graphs:
                _widen_graph(body, kinds)


def _widen_tensor(tensor: TensorProto, kinds: Collection[int]) -> None:
    if tensor.data_type in kinds:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _widen_type(kind: TypeProto, kinds: Collection[int]) -> None:
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type in kinds:
        kind.tensor_type.elem_type = TensorProto.FLOAT
    elif kind.HasField("sequence_type"):
        _widen_type(kind.sequence_type.elem_type, kinds)
    elif kind.HasField("optional_type"):
        _widen_type(kind.optional_type.elem_type, kinds)


def _names_type(attr: AttributeProto, kinds: Collection[int]) -> bool:
    is_type = attr.type == AttributeProto.INT and attr.name in _TYPE_ATTRIBUTES
    return bool(is_type and attr.i in kinds)

"""bfloat16 computed as float32, in both models alike, where the runtime has no kernels for it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, TypeProto, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.model.graph.order import graphs
from onnx_oto.runtime.runner import in_onnxruntime

_TYPE_ATTRIBUTES = ("to", "dtype", "output_dtype")


def alike(full: ModelProto, compact: ModelProto) -> tuple[ModelProto, ModelProto, bool]:
    """Return two models as they are or, if the runtime takes one of them only so, both upcast; and which it is.

    Rounding to bfloat16 between operators is left out then. What surgery puts into a weight (the bias of a layer that
    reads a constant) is rounded as it is stored, so that outputs are compared as those of float16 are. The arguments
    are not modified.
    """
    if not uses_bfloat16(full) or (_runs(full) and _runs(compact)):
        return full, compact, False
    wide = upcast(full), upcast(compact)
    if not all(map(_runs, wide)):
        raise UnsupportedError(
            "the model cannot be run: the runtime lacks kernels, for float32 in its place too"
        )
    return *wide, True


def _runs(model: ModelProto) -> bool:
    """Return whether onnxruntime takes the model: it knows its operators and has kernels for its types."""
    try:
        in_onnxruntime(model, threads=1)
    except UnsupportedError:
        return False
    return True


def uses_bfloat16(model: ModelProto) -> bool:
    """Return whether a tensor of the model is stored or declared as bfloat16, or cast to it."""
    every = list(graphs(model.graph))
    nodes = [node for graph in every for node in graph.node]
    stored = any(tensor.data_type == TensorProto.BFLOAT16 for graph in every for tensor in graph.initializer)
    declared = any(
        value.type.tensor_type.elem_type == TensorProto.BFLOAT16
        for graph in every
        for value in (*graph.input, *graph.output)
    )
    cast = any(
        _names_bfloat16(attr) or attr.t.data_type == TensorProto.BFLOAT16
        for node in nodes
        for attr in node.attribute
    )
    return stored or declared or cast


def upcast(model: ModelProto) -> ModelProto:
    """Return a copy of the model with float32 wherever it has bfloat16, inputs and outputs included."""
    result = ModelProto()
    result.CopyFrom(model)
    _widen_graph(result.graph)
    for function in result.functions:
        _widen_nodes(function.node)
    return result


def _widen_graph(graph: GraphProto) -> None:
    for tensor in graph.initializer:
        _widen_tensor(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        _widen_type(value.type)
    _widen_nodes(graph.node)


def _widen_nodes(nodes: Iterable[NodeProto]) -> None:
    for node in nodes:
        for attr in node.attribute:
            if _names_bfloat16(attr):
                attr.i = TensorProto.FLOAT
            elif attr.type == AttributeProto.TENSOR:
                _widen_tensor(attr.t)
            elif attr.type == AttributeProto.GRAPH:
                _widen_graph(attr.g)
            for body in attr.graphs:
                _widen_graph(body)


def _widen_tensor(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.BFLOAT16:
        value = numpy_helper.to_array(tensor).astype(np.float32)
        tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))


def _widen_type(kind: TypeProto) -> None:
    if kind.HasField("tensor_type") and kind.tensor_type.elem_type == TensorProto.BFLOAT16:
        kind.tensor_type.elem_type = TensorProto.FLOAT
    elif kind.HasField("sequence_type"):
        _widen_type(kind.sequence_type.elem_type)
    elif kind.HasField("optional_type"):
        _widen_type(kind.optional_type.elem_type)


def _names_bfloat16(attr: AttributeProto) -> bool:
    is_type = attr.type == AttributeProto.INT and attr.name in _TYPE_ATTRIBUTES
    return bool(is_type and attr.i == onnx.TensorProto.BFLOAT16)

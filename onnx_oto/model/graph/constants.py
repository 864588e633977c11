"""Constants in all their spellings: Constant nodes, sparse initializers, defaults of graph inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, SparseTensorProto, TensorProto

from onnx_oto.errors import ModelError
from onnx_oto.model.graph.order import bodies, graphs
from onnx_oto.model.graph.tensors import MAX_DENSE_BYTES, dense_bytes, densify, from_array


def store_densely(model: ModelProto) -> None:
    """Turn sparse initializers and sparse Constants into dense ones, in place, in bodies and functions too.

    onnx's shape inference takes a sparse tensor for one without axes. Raises ModelError when one is damaged, or
    all of them together are too large.
    """
    every = list(graphs(model.graph))
    nodes = [node for graph in every for node in graph.node]
    for function in model.functions:
        nodes.extend(function.node)
        for node in function.node:
            inner = [graph for body in bodies(node) for graph in graphs(body)]
            every.extend(inner)
            nodes.extend(other for graph in inner for other in graph.node)
    constants = [a for n in nodes if is_constant(n) for a in n.attribute if a.name == "sparse_value"]
    stored = [sparse for graph in every for sparse in graph.sparse_initializer]
    _refuse_large([*stored, *(attr.sparse_tensor for attr in constants)])
    for graph in every:
        for sparse in graph.sparse_initializer:
            graph.initializer.add().CopyFrom(densify(sparse))
        graph.ClearField("sparse_initializer")
    for attr in constants:
        dense = densify(attr.sparse_tensor)
        attr.Clear()
        attr.name, attr.type = "value", AttributeProto.TENSOR
        attr.t.CopyFrom(dense)


def constants(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield the initializers of a graph, and its Constant nodes as tensors named after their outputs."""
    yield from graph.initializer
    for node in graph.node:
        if is_constant(node):
            tensor = TensorProto()
            write_constant(node, tensor)
            yield tensor


def _refuse_large(tensors: Iterable[SparseTensorProto]) -> None:
    """Raise ModelError when the tensors would together take more than one may."""
    total = 0
    for sparse in tensors:
        total += dense_bytes(sparse) if all(size >= 0 for size in sparse.dims) else 0
        if total > MAX_DENSE_BYTES:
            raise ModelError(
                f"sparse tensor {sparse.values.name!r} of dims {list(sparse.dims)} is too large to be stored densely "
                f"(all sparse tensors together may take {MAX_DENSE_BYTES} bytes)"
            )


def is_constant(node: NodeProto) -> bool:
    """Say whether the node is an ai.onnx Constant with one output."""
    return node.op_type == "Constant" and node.domain in ("", "ai.onnx") and len(node.output) == 1


def write_constant(node: NodeProto, target: TensorProto) -> None:
    """Fill `target` with the value of a Constant node, named after its output. Copies the payload once.

    Raises ModelError for a Constant without a value.
    """
    for attr in node.attribute:
        if attr.name == "value":
            target.CopyFrom(attr.t)
            target.name = node.output[0]
            return
        tensor = _other_kind(attr)
        if tensor is not None:
            target.CopyFrom(tensor)
            target.name = node.output[0]
            return
    raise ModelError(f"Constant node {node.name or node.output[0]!r} has no value")


def _other_kind(attr: AttributeProto) -> TensorProto | None:
    if attr.name == "sparse_value":
        return densify(attr.sparse_tensor)
    if attr.name == "value_float":
        return from_array(np.array(attr.f, np.float32), "")
    if attr.name == "value_floats":
        return from_array(np.array(list(attr.floats), np.float32), "")
    if attr.name == "value_int":
        return from_array(np.array(attr.i, np.int64), "")
    if attr.name == "value_ints":
        return from_array(np.array(list(attr.ints), np.int64), "")
    if attr.name in ("value_string", "value_strings"):
        strings = [attr.s] if attr.name == "value_string" else list(attr.strings)
        dims = [] if attr.name == "value_string" else [len(strings)]
        return TensorProto(data_type=TensorProto.STRING, dims=dims, string_data=strings)
    return None

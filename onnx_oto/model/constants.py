"""Constants in all their spellings: Constant nodes, sparse initializers, defaults of graph inputs."""

from __future__ import annotations

import numpy as np
from onnx import AttributeProto, NodeProto, TensorProto

from onnx_oto.errors import ModelError
from onnx_oto.model.tensors import densify, from_array


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

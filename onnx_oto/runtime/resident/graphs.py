"""Values that are yet to be computed as a model of standard operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnx_oto.model.graph.writer import GraphWriter
from onnx_oto.runtime.resident.values import Order, Value

OPSET, IR = 17, 8
"""What every runtime since 1.12 reads, and the providers that lag behind it."""
NUMBERS = "numbers"
_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.bool_): TensorProto.BOOL,
    np.dtype(np.int32): TensorProto.INT32,
}


def held_name(index: int) -> str:
    """Return the input that is a held value, by its place among them."""
    return f"held.{index}"


def table_name(index: int) -> str:
    """Return the input that is a table, by its place among them."""
    return f"table.{index}"


def model_of(order: Order, roots: Sequence[Value]) -> onnx.ModelProto:
    """Return the model that computes roots, each of them once and none a leaf; its outputs are in their order.

    All sizes are open, and all numbers are one input.
    """
    writer = GraphWriter(OPSET, "resident")
    inputs: list[onnx.ValueInfoProto] = []
    names: dict[int, str] = {}
    for kind, leaves in ((held_name, order.held), (table_name, order.tables)):
        for index, value in enumerate(leaves):
            names[id(value)] = kind(index)
            sizes = [f"{kind(index)}.{axis}" for axis in range(value.rank)]
            inputs.append(helper.make_tensor_value_info(kind(index), _TYPES[value.dtype], sizes))
    if order.scalars:
        count = len(order.scalars)
        inputs.append(helper.make_tensor_value_info(NUMBERS, TensorProto.FLOAT, [count]))
        apart = (
            writer.emit_many("Split", [NUMBERS], count, axis=0, split=[1] * count) if count > 1 else [NUMBERS]
        )
        names |= {id(value): name for value, name in zip(order.scalars, apart, strict=True)}
    for value in order.values:
        if not value.is_leaf:
            sources = [names[id(each)] for each in value.inputs]
            settings = {
                name: list(each) if isinstance(each, tuple) else each for name, each in value.settings
            }
            names[id(value)] = writer.emit(value.op, *sources, **settings)
    outputs = [
        helper.make_tensor_value_info(
            names[id(root)], _TYPES[root.dtype], [f"root.{index}.{axis}" for axis in range(root.rank)]
        )
        for index, root in enumerate(roots)
    ]
    graph = helper.make_graph([], "resident", inputs, outputs)
    writer.write_to(graph)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)

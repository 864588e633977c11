"""Nodes that call functions of ours from a gradient graph, see `runtime/joining.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx
from onnx import TensorProto, helper

from onnx_oto.runtime.joining import DOMAIN, OPERATOR


def call(function: str, name: str, inputs: Sequence[str], outputs: Sequence[str]) -> onnx.NodeProto:
    """Return the node that calls a function, by its `overload_name`."""
    return helper.make_node(
        OPERATOR, inputs, outputs, name=name, domain=DOMAIN, operator="onnx_oto", overload_name=function
    )


def let_call(model: onnx.ModelProto, words: Mapping[str, int]) -> None:
    """Give a graph that calls functions what that takes, in place. words: int64 inputs that it lacks, by size."""
    declared = {value.name for value in model.graph.input}
    model.graph.input.extend(
        helper.make_tensor_value_info(name, TensorProto.INT64, [size])
        for name, size in words.items()
        if name not in declared
    )
    if all(each.domain != DOMAIN for each in model.opset_import):
        model.opset_import.append(helper.make_opsetid(DOMAIN, 1))


def free_early(graph: onnx.GraphProto) -> None:
    """Let the runtime give back what functions made as soon as nobody reads it: its sizes are not told, in place.

    It would plan to write what a function makes into memory of the same shape that is free by then, but gets other
    memory from the function, and keeps both until the run ends.
    """
    made = {name for node in graph.node if node.op_type == OPERATOR for name in node.output}
    for value in graph.value_info:
        if value.name in made:
            for axis, size in enumerate(value.type.tensor_type.shape.dim):
                size.dim_param = f"{value.name}.{axis}"

"""A loss attached to a graph: its targets and its weight become inputs, its value a tensor of a known name."""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper

from onnx_oto.losses.loss import Loss, Target
from onnx_oto.model.graph.node import opset_of
from onnx_oto.model.graph.writer import GraphWriter

LOSS = "onnx_oto.loss"
"""The loss in a graph: float32, rank 0."""
WEIGHT = "onnx_oto.loss.weight"
"""Graph input, float32 of rank 0: 1 / `Loss.count` of the whole batch, of which the graph may see a share."""


def target_input(name: str) -> str:
    """Return the name of the graph input for a target."""
    return f"onnx_oto.target.{name}"


def attach(
    model: onnx.ModelProto,
    loss: Loss,
    outputs: Sequence[str],
    shapes: Sequence[tuple[int, ...]],
    samples: int,
) -> dict[str, Target]:
    """Append a loss as tensor LOSS, in place, and return its targets by name (graph input: `target_input`).

    outputs: tensors of these static `shapes`, for `samples` samples. Existing graph outputs are left alone. Raises
    UnsupportedError for outputs that do not suit the loss.
    """
    graph = model.graph
    targets = loss.targets(shapes)
    writer = GraphWriter(opset_of(model), LOSS)
    names = {name: target_input(name) for name in targets}
    value = loss.append(writer, outputs, shapes, names, WEIGHT, samples)
    writer.write_to(graph)
    graph.node.append(helper.make_node("Identity", [value], [LOSS], name=LOSS))
    for name, target in targets.items():
        kind = helper.np_dtype_to_tensor_dtype(target.dtype)
        graph.input.append(helper.make_tensor_value_info(names[name], kind, target.shape))
    graph.input.append(helper.make_tensor_value_info(WEIGHT, TensorProto.FLOAT, []))
    return targets

"""Which outputs say a class: told by the graph, where nobody says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from onnx_oto.losses import read

_MOVES = frozenset({"Identity", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Add", "Cast"})
_LINEAR = frozenset({"Gemm", "MatMul", "Conv", "GlobalAveragePool", "ReduceMean"})
_FINAL = ("Softmax", "LogSoftmax")


def classes_axis(model: onnx.ModelProto, name: str, shape: Sequence[int]) -> int | None:
    """Return the axis of classes of a tensor: that of a final Softmax, or of a linear layer's [N, C]; None without."""
    axis = _final_axis(model, name, len(shape))
    if axis is None and len(shape) == 2 and shape[1] > 1 and _is_linear(model, name):
        return 1
    return axis


def _final_axis(model: onnx.ModelProto, name: str, rank: int) -> int | None:
    """Return the axis over which a tensor ends in a Softmax or LogSoftmax, None where it does not."""
    for axis in range(1, rank):
        if ends_in(model, name, dict.fromkeys(_FINAL, axis)):
            return axis
    return None


def ends_in(model: onnx.ModelProto, name: str, activations: Mapping[str, int | None]) -> bool:
    """Say whether a tensor ends in one of these operators, which a loss would read in front of."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    return read(probe, name, activations) != name


def _is_linear(model: onnx.ModelProto, name: str) -> bool:
    """Say whether a tensor comes from a linear layer, through nodes that move or shift entries."""
    producers = {each: node for node in model.graph.node for each in node.output if each}
    node = producers.get(name)
    while node is not None and node.op_type in _MOVES and not node.domain:
        node = next((producers[each] for each in node.input if each in producers), None)
    return node is not None and node.op_type in _LINEAR and not node.domain

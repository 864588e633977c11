"""Scores with the classes on any axis as rows, which the operators of losses read."""

from __future__ import annotations

import math

from onnx_oto.model.graph.writer import GraphWriter


def as_rows(graph: GraphWriter, scores: str, shape: tuple[int, ...], axis: int) -> str:
    """Return scores [M, K] of a tensor of a static `shape` with K classes on an axis."""
    if axis != len(shape) - 1:
        order = [*(a for a in range(len(shape)) if a != axis), axis]
        scores = graph.emit("Transpose", scores, perm=order)
    return graph.reshape(scores, (math.prod(shape) // shape[axis], shape[axis]))

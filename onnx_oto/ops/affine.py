"""Integer tensors whose value is an affine function of the position: what exporters write for strided views."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from onnx_oto.model.graph.node import Node
from onnx_oto.model.view import Graph


@dataclass(frozen=True)
class Affine:
    """value[i0, i1, ...] = start + sum_k steps[k] * ik; the step along an axis of size 1 is 0."""

    start: int
    steps: tuple[int, ...]


def affine(graph: Graph, name: str, depth: int = 32) -> Affine | None:
    """Return the affine form of an integer tensor, None if it has none or it cannot be proved."""
    shape = graph.shapes.get(name)
    if shape is None or depth == 0:
        return None
    if name in graph.initializers:
        return _of_array(graph.constant(name))
    node = graph.producer.get(name)
    if node is None or node.op not in ("Range", "Unsqueeze", "Cast", "Identity", "Add", "Mul", "Expand"):
        return None
    if node.op == "Range":
        start, step = _number(graph, node.inputs[0]), _number(graph, node.inputs[2])
        return None if start is None or step is None else Affine(start, (step,))
    parts = [affine(graph, n, depth - 1) for n in node.inputs[: 2 if node.op in ("Add", "Mul") else 1]]
    first = parts[0]
    if first is None:
        return None
    if node.op in ("Cast", "Identity"):
        return first
    if node.op in ("Unsqueeze", "Expand"):
        return _widened(graph, node, first, len(shape))
    second = parts[1]
    if second is None:
        return None
    left, right = _aligned(first, len(shape)), _aligned(second, len(shape))
    if node.op == "Add":
        return Affine(
            left.start + right.start, tuple(a + b for a, b in zip(left.steps, right.steps, strict=True))
        )
    if not any(left.steps):
        left, right = right, left
    if any(right.steps):
        return None
    return Affine(left.start * right.start, tuple(s * right.start for s in left.steps))


def is_row_major(form: Affine, shape: tuple[int | str | None, ...]) -> bool:
    """Return whether the values count the positions of a tensor of `shape` from 0, last axis fastest."""
    stride: int | None = 1
    if form.start != 0:
        return False
    for step, size in zip(reversed(form.steps), reversed(shape), strict=True):
        if size != 1 and step != stride:
            return False
        stride = stride * size if isinstance(size, int) and stride is not None else None
    return True


def _number(graph: Graph, name: str) -> int | None:
    value = graph.constant(name)
    return int(value.reshape(-1)[0]) if value is not None and value.size == 1 else None


def _of_array(value: np.ndarray | None) -> Affine | None:
    if value is None or value.dtype.kind not in "iu" or value.size == 0:
        return None
    start = int(value.reshape(-1)[0])
    steps = tuple(
        int(value.take(1, axis=a).reshape(-1)[0]) - start if value.shape[a] > 1 else 0
        for a in range(value.ndim)
    )
    expected = np.full(value.shape, start, np.int64)
    for axis, step in enumerate(steps):
        shape = [-1 if a == axis else 1 for a in range(value.ndim)]
        expected = expected + step * np.arange(value.shape[axis]).reshape(shape)
    return Affine(start, steps) if np.array_equal(expected, value) else None


def _widened(graph: Graph, node: Node, form: Affine, rank: int) -> Affine | None:
    if node.op == "Expand":
        return _aligned(form, rank)
    axes = node.attrs.get("axes")
    if axes is None:
        value = graph.constant(node.inputs[1])
        if value is None:
            return None
        axes = value.reshape(-1).tolist()
    inserted = {int(a) % rank for a in axes}
    rest = iter(form.steps)
    return Affine(form.start, tuple(0 if a in inserted else next(rest) for a in range(rank)))


def _aligned(form: Affine, rank: int) -> Affine:
    return Affine(form.start, (0,) * (rank - len(form.steps)) + form.steps)

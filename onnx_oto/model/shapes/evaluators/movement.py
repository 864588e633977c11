"""Ops that move elements without computing: slices, reshapes, concatenations, fills."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from onnx_oto.model.graph.node import Node
from onnx_oto.model.shapes.values import (
    MAX_ELEMENTS,
    Value,
    argument,
    as_array,
    evaluates,
    fits,
    integers,
    is_known,
)


@evaluates("Identity")
def _identity(node: Node, values: Sequence[Value | None]) -> Value | None:
    return values[0]


@evaluates("Gather")
def _gather(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, indices = values[0], values[1]
    if data is None or indices is None or not is_known(indices):
        return None
    if data.size * indices.size > MAX_ELEMENTS * data.shape[node.attrs.get("axis", 0)]:
        return None
    return as_array(np.take(data, indices.astype(np.int64), axis=node.attrs.get("axis", 0)), data.dtype)


@evaluates("Concat")
def _concat(node: Node, values: Sequence[Value | None]) -> Value | None:
    found = [value for value in values if value is not None]
    if len(found) < len(values) or sum(value.size for value in found) > MAX_ELEMENTS:
        return None
    return np.concatenate(_alike(found), axis=node.attrs.get("axis", 0))


@evaluates("Unsqueeze")
def _unsqueeze(node: Node, values: Sequence[Value | None]) -> Value | None:
    axes = argument(node, values, 1, "axes")
    if values[0] is None or axes is None:
        return None
    return np.expand_dims(values[0], tuple(axes))


@evaluates("Squeeze")
def _squeeze(node: Node, values: Sequence[Value | None]) -> Value | None:
    given = "axes" in node.attrs or bool(node.input(1))
    axes = argument(node, values, 1, "axes")
    if values[0] is None or (given and axes is None):
        return None
    return np.squeeze(values[0], axis=None if axes is None else tuple(axes))


@evaluates("Slice")
def _slice(node: Node, values: Sequence[Value | None]) -> Value | None:
    data = values[0]
    starts, ends = argument(node, values, 1, "starts"), argument(node, values, 2, "ends")
    if data is None or starts is None or ends is None:
        return None
    axes = argument(node, values, 3, "axes", list(range(len(starts))))
    steps = argument(node, values, 4, "steps", [1] * len(starts))
    if axes is None or steps is None:
        return None
    index: list[slice] = [slice(None)] * data.ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        index[axis] = onnx_slice(data.shape[axis], start, end, step)
    return data[tuple(index)]


def onnx_slice(size: int, start: int, end: int, step: int) -> slice:
    """Return the Python slice that means the same as an ONNX slice of an axis of this size."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start = min(max(start + size if start < 0 else start, 0), high)
    end = min(max(end + size if end < 0 else end, low), size)
    return slice(start, None if end < 0 else end, step)


@evaluates("Reshape")
def _reshape(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, shape = values[0], argument(node, values, 1, "shape")
    if data is None or shape is None:
        return None
    if not node.attrs.get("allowzero", 0):
        shape = [data.shape[axis] if size == 0 else size for axis, size in enumerate(shape)]
    return data.reshape(shape)


@evaluates("Transpose")
def _transpose(node: Node, values: Sequence[Value | None]) -> Value | None:
    return None if values[0] is None else np.transpose(values[0], node.attrs.get("perm"))


@evaluates("Flatten")
def _flatten(node: Node, values: Sequence[Value | None]) -> Value | None:
    if values[0] is None:
        return None
    axis = node.attrs.get("axis", 1)
    axis += values[0].ndim if axis < 0 else 0
    return values[0].reshape(int(np.prod(values[0].shape[:axis])), -1)


@evaluates("Expand")
def _expand(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, shape = values[0], integers(values[1])
    if data is None or shape is None:
        return None
    result = np.broadcast_shapes(data.shape, tuple(shape))
    return np.broadcast_to(data, result) if fits(result) else None


@evaluates("Tile")
def _tile(node: Node, values: Sequence[Value | None]) -> Value | None:
    data, repeats = values[0], integers(values[1])
    if data is None or repeats is None or not fits([*data.shape, *repeats]) or len(repeats) != data.ndim:
        return None
    return np.tile(data, repeats)


@evaluates("ConstantOfShape")
def _constant_of_shape(node: Node, values: Sequence[Value | None]) -> Value | None:
    shape = integers(values[0])
    if shape is None or not fits(shape):
        return None
    fill = node.attrs.get("value", np.zeros(1, np.float32))
    return np.full(shape, fill.reshape(-1)[0], fill.dtype)


@evaluates("Range")
def _range(node: Node, values: Sequence[Value | None]) -> Value | None:
    if not all(is_known(value) for value in values):
        return None
    start, limit, delta = (value.reshape(-1)[0] for value in values if value is not None)
    count = (float(limit) - float(start)) / float(delta) if delta else math.inf
    if not count <= MAX_ELEMENTS:
        return None
    return np.arange(start, limit, delta, dtype=start.dtype)


@evaluates("Split")
def _split(node: Node, values: Sequence[Value | None]) -> list[Value] | None:
    data = values[0]
    if data is None:
        return None
    axis = node.attrs.get("axis", 0)
    parts, size = len(node.outputs), data.shape[axis]
    chunk = -(-size // parts)
    equal = [min(chunk, size - chunk * i) for i in range(parts)]
    lengths = argument(node, values, 1, "split", equal)
    if lengths is None or sum(lengths) != size:
        return None
    return list(np.split(data, np.cumsum(lengths)[:-1], axis=axis))


def _alike(values: list[Value]) -> list[Value]:
    return (
        [value.astype(object) for value in values]
        if any(value.dtype == object for value in values)
        else values
    )

"""Output shapes that follow from partly known values, where onnx's own inference needs fully known ones.

One function per op, `claim(node, shapes, values) -> Shape | None`: sizes are ints, symbols or None (unknown).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

import numpy as np

from onnx_oto.model.dims import Dim, Shape, divide, multiply, product
from onnx_oto.model.node import Node
from onnx_oto.model.values import argument, sizes

Shapes: TypeAlias = "Mapping[str, Shape | None]"
Values: TypeAlias = "Mapping[str, np.ndarray]"
Claim: TypeAlias = "Callable[[Node, Shapes, Values], Shape | None]"

CLAIMS: dict[str, Claim] = {}


def claims(op: str) -> Callable[[Claim], Claim]:
    """Register the shape rule of an op of the standard domain."""

    def register(function: Claim) -> Claim:
        CLAIMS[op] = function
        return function

    return register


def merge(a: Shape | None, b: Shape | None) -> Shape | None:
    """Return what two true statements about one shape say together: ints before symbols before None."""
    if a is None or b is None or len(a) != len(b):
        return b if a is None else a
    return tuple(_better(x, y) for x, y in zip(a, b, strict=True))


def _better(a: Dim, b: Dim) -> Dim:
    if isinstance(a, int) or b is None:
        return a
    return b if isinstance(b, int) or a is None else a


@claims("Reshape")
def _reshape(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    """One open size follows from the element count, whether it is written -1 or just unknown."""
    source = shapes.get(node.input(0))
    target = sizes(values.get(node.input(1)))
    if target is None:
        return None
    result = list(target)
    if not node.attrs.get("allowzero", 0):
        for axis, size in enumerate(target):
            if size == 0:
                result[axis] = source[axis] if source is not None and axis < len(source) else None
    open_axes = [axis for axis, size in enumerate(result) if size is None or size == -1]
    for axis in open_axes:
        result[axis] = None
    if len(open_axes) == 1 and source is not None:
        rest = product(size for axis, size in enumerate(result) if axis != open_axes[0])
        result[open_axes[0]] = divide(product(source), rest)
    return tuple(result)


@claims("Expand")
def _expand(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    source, target = shapes.get(node.input(0)), sizes(values.get(node.input(1)))
    if source is None or target is None:
        return None
    rank = max(len(source), len(target))
    left: list[Dim] = [*([1] * (rank - len(source))), *source]
    right: list[Dim] = [*([1] * (rank - len(target))), *target]
    return tuple(_broadcast(a, b) for a, b in zip(left, right, strict=True))


def _broadcast(a: Dim, b: Dim) -> Dim:
    if a == 1:
        return b
    if b == 1 or a == b:
        return a
    if isinstance(a, int):
        return a
    return b if isinstance(b, int) else None


@claims("ConstantOfShape")
def _constant_of_shape(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    target = sizes(values.get(node.input(0)))
    return None if target is None else tuple(target)


@claims("Tile")
def _tile(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    source, repeats = shapes.get(node.input(0)), sizes(values.get(node.input(1)))
    if source is None or repeats is None or len(source) != len(repeats):
        return None
    return tuple(multiply(size, count) for size, count in zip(source, repeats, strict=True))


@claims("Range")
def _range(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    start, limit, delta = (sizes(values.get(node.input(i))) for i in range(3))
    if start == [0] and delta == [1] and limit is not None:
        return tuple(limit)
    return None


@claims("Pad")
def _pad(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    source = shapes.get(node.input(0))
    pads = node.attrs.get("pads") or sizes(values.get(node.input(1)))
    if source is None or pads is None:
        return None
    axes = argument(node, [None, None, None, values.get(node.input(3))], 3, "axes", list(range(len(source))))
    if axes is None or len(pads) != 2 * len(axes):
        return None
    result = list(source)
    for position, axis in enumerate(axes):
        result[axis] = _grow(source[axis], pads[position], pads[position + len(axes)])
    return tuple(result)


def _grow(size: Dim, before: Dim, after: Dim) -> Dim:
    if before == 0 and after == 0:
        return size
    if isinstance(size, int) and isinstance(before, int) and isinstance(after, int):
        return size + before + after
    return None


@claims("Slice")
def _slice(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    """Axes that a slice does not mention, or takes as a whole, keep their size."""
    source = shapes.get(node.input(0))
    if source is None or "starts" in node.attrs:
        return None
    starts, ends = sizes(values.get(node.input(1))), sizes(values.get(node.input(2)))
    if starts is None or ends is None:
        return None
    whole = [None, None, None, values.get(node.input(3)), values.get(node.input(4))]
    axes = argument(node, whole, 3, "axes", list(range(len(starts))))
    steps = argument(node, whole, 4, "steps", [1] * len(starts))
    if axes is None or steps is None:
        return None
    result = list(source)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        result[axis] = _cut(source[axis], start, end, step)
    return tuple(result)


def _cut(size: Dim, start: Dim, end: Dim, step: int) -> Dim:
    huge = isinstance(end, int) and end >= 2**31 - 1
    if start == 0 and step == 1 and (end == size or huge):
        return size
    if not (isinstance(size, int) and isinstance(start, int) and isinstance(end, int)):
        return None
    return len(range(*slice(start, end, step).indices(size))) if step > 0 else None


@claims("Resize")
def _resize(node: Node, shapes: Shapes, values: Values) -> Shape | None:
    """`sizes` as given; scales 1 keep an axis."""
    source = shapes.get(node.input(0))
    plain = node.attrs.get("keep_aspect_ratio_policy", "stretch") == "stretch" and "axes" not in node.attrs
    if (
        source is None
        or not plain
        or node.attrs.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    ):
        return None
    target = sizes(values.get(node.input(3)))
    if target is not None and len(target) == len(source):
        return tuple(target)
    scales = values.get(node.input(2 if node.since >= 11 else 1))
    if scales is None or scales.size != len(source) or scales.dtype == object:
        return None
    return tuple(_scaled(size, float(scale)) for size, scale in zip(source, scales.flat, strict=True))


def _scaled(size: Dim, scale: float) -> Dim:
    if scale.is_integer():
        return multiply(size, int(scale))
    return int(np.floor(size * np.float32(scale))) if isinstance(size, int) else None

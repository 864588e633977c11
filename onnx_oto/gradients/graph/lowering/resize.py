"""Resize as a fixed matrix per axis, for nearest too: ORT's GatherGrad is ten times slower than the product."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

Vector = NDArray[np.float64]


@register("Resize")
def resize(node: Site) -> Outcome:
    """Every mode but antialiasing and tf_crop_and_resize; coordinates as in the specification of Resize."""
    _refuse(node)
    x = node.inputs[0]
    shape = node.shape(x)
    result = x
    for axis, size, scale in _targets(node, shape):
        if size == shape[axis] and scale == 1.0:
            continue
        matrix = _matrix(node, _coordinates(node, shape[axis], size, scale), shape[axis])
        result = _multiplied(node, result, axis, len(shape), matrix)
    return result if result != x else node.emit("Identity", x)


def _refuse(node: Site) -> None:
    if node.attribute("antialias", 0):
        raise UnsupportedError("antialiased Resize cannot be trained: set antialias=0")
    if node.attribute("coordinate_transformation_mode", "half_pixel") == "tf_crop_and_resize":
        raise UnsupportedError(
            "Resize with tf_crop_and_resize cannot be trained: crop with Slice, then resize"
        )
    if node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise UnsupportedError("Resize with keep_aspect_ratio_policy cannot be trained: write the sizes out")


def _targets(node: Site, shape: tuple[int, ...]) -> list[tuple[int, int, float]]:
    """Return (axis, new size, scale) of the resized axes; sizes give the scale new / old."""
    axes = [axis % len(shape) for axis in node.attribute("axes", range(len(shape)))]
    scales = node.constant(2, "scales")
    if scales is not None and scales.size:
        new = [int(np.floor(np.float32(shape[axis]) * s)) for axis, s in zip(axes, scales, strict=True)]
        return [(axis, size, float(s)) for axis, size, s in zip(axes, new, scales, strict=True)]
    sizes = node.constant(3, "sizes")
    if sizes is None:
        raise UnsupportedError("neither its scales nor its sizes are constant")
    return [(axis, int(size), int(size) / shape[axis]) for axis, size in zip(axes, sizes, strict=True)]


def _coordinates(node: Site, old: int, new: int, scale: float) -> Vector:
    """Return where each new position lies on the old axis, in old positions; float32 arithmetic as in ORT."""
    i = np.arange(new, dtype=np.float32)
    scale32 = np.float32(scale)
    mode = node.attribute("coordinate_transformation_mode", "half_pixel")
    half_pixel = (i + np.float32(0.5)) / scale32 - np.float32(0.5)
    if mode == "half_pixel":
        places = half_pixel
    elif mode == "pytorch_half_pixel":
        places = half_pixel if new > 1 else np.zeros(1, np.float32)
    elif mode == "align_corners":
        places = i * np.float32((old - 1) / (new - 1)) if new > 1 else np.zeros(1, np.float32)
    elif mode == "asymmetric":
        places = i / scale32
    elif mode == "half_pixel_symmetric":
        places = np.float32(old / 2 * (1 - new / (scale * old))) + half_pixel
    elif mode == "tf_half_pixel_for_nn":
        places = (i + np.float32(0.5)) / scale32
    else:
        raise UnsupportedError(f"coordinate_transformation_mode {mode!r} is unknown")
    return places.astype(np.float64)


def _matrix(node: Site, places: Vector, old: int) -> Vector:
    """Return the map [new, old]: 1 (nearest), 2 (linear) or 4 (cubic) entries per row; places outside are clamped."""
    mode = node.attribute("mode", "nearest")
    if mode == "nearest":
        base, offsets = _rounded(node, places), np.zeros(1, np.int64)
        weights = np.ones((len(places), 1))
    elif mode == "linear":
        places = np.clip(places, 0, old - 1)
        base, offsets = np.floor(places), np.arange(2)
        weights = np.stack([1 - (places - base), places - base], axis=1)
    else:
        base, offsets = np.floor(places), np.arange(-1, 3)
        weights = _cubic(places[:, None] - (base[:, None] + offsets), node.attribute("cubic_coeff_a", -0.75))
    index = base[:, None].astype(np.int64) + offsets
    if node.attribute("exclude_outside", 0):
        weights = np.where((index >= 0) & (index < old), weights, 0.0)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((len(places), old))
    rows = np.broadcast_to(np.arange(len(places))[:, None], index.shape)
    np.add.at(matrix, (rows, np.clip(index, 0, old - 1)), weights)
    return matrix


def _rounded(node: Site, places: Vector) -> Vector:
    return {
        "round_prefer_floor": np.ceil(places - 0.5),
        "round_prefer_ceil": np.floor(places + 0.5),
        "floor": np.floor(places),
        "ceil": np.ceil(places),
    }[node.attribute("nearest_mode", "round_prefer_floor")]


def _cubic(distance: Vector, a: float) -> Vector:
    """Return Keys' cubic convolution weights (1981) for distances below 2."""
    d = np.abs(distance)
    near = ((a + 2) * d - (a + 3)) * d * d + 1
    far = ((a * d - 5 * a) * d + 8 * a) * d - 4 * a
    return np.where(d <= 1, near, far)


def _multiplied(node: Site, x: str, axis: int, rank: int, matrix: Vector) -> str:
    like = node.inputs[0]
    if axis == rank - 1:
        return node.emit("MatMul", x, node.number(matrix.T, like))
    if axis == rank - 2:
        return node.emit("MatMul", node.number(matrix, like), x)
    order = list(range(rank))
    order[axis], order[-1] = order[-1], order[axis]
    moved = node.emit("MatMul", node.emit("Transpose", x, perm=order), node.number(matrix.T, like))
    return node.emit("Transpose", moved, perm=order)

"""Maps read at computed places: GridSample as one gather of all neighbours, weighted, and the grid of an affine map.

Letters: N samples, C channels, P places that are read, T neighbours along one axis, K of them over all axes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register

_A = -0.75  # of the cubic kernel, by the standard
_CUBIC = [[0, 1, 0, 0], [_A, 0, -_A, 0], [-2 * _A, -_A - 3, 2 * _A + 3, _A], [_A, _A + 2, -_A - 2, -_A]]
# First neighbour, and the weights of all at distance f behind the place's floor: (1, f, f^2, ...) times a matrix.
_KERNELS = {
    "nearest": (0, np.ones((1, 1))),
    "linear": (0, np.array([[1, 0], [-1, 1]])),
    "cubic": (-1, np.array(_CUBIC)),
}
_NAMES = {"bilinear": "linear", "bicubic": "cubic"}  # until opset 19


@register("GridSample", "com.microsoft::GridSample")
def grid_sample(node: Site) -> Outcome:
    """y[n, c, p] = sum_k w[n, p, k] x[n, c, i[n, p, k]]; the weights w carry the gradient of the grid."""
    x, grid = node.inputs
    shape, places = node.shape(x), node.shape(grid)
    size, count = shape[2:], math.prod(places[1:-1])
    written = node.attribute("mode", "linear")
    mode = _NAMES.get(written, written)
    if mode not in _KERNELS or (mode == "cubic" and len(size) > 2):
        raise UnsupportedError(f"mode {mode!r} of a {len(size)}-D map has no gradient here: use mode linear")
    flat = node.reshape(grid, (places[0], count, len(size)))
    parts = node.emit_many("Split", [flat, node.ints([1] * len(size))], len(size), axis=-1)
    index, weight = "", ""
    for axis, (length, place) in enumerate(zip(size, reversed(parts), strict=True)):
        found = _Axis(node, length, mode, node.attribute("padding_mode", "zeros")).neighbours(place)
        table = [places[0], count, *([1] * len(size))]
        table[2 + axis] = len(_KERNELS[mode][1])
        i, w = (node.reshape(name, table) for name in found)
        if axis == 0:
            index, weight = i, w
        else:
            index = node.emit("Add", node.emit("Mul", index, node.value(length, np.int64)), i)
            weight = node.emit("Mul", weight, w)
    return _weighted(node, index, weight, [*shape[:2], *places[1:-1]])


def _weighted(node: Site, index: str, weight: str, result: Sequence[int]) -> str:
    """Return sum_k weight[n, p, k] x[n, c, index[n, p, k]] in the shape [N, C, ...] of the result."""
    samples, channels, *rest = result
    count = math.prod(rest)
    flat = node.reshape(node.inputs[0], (samples, channels, -1))
    wide = node.emit("Expand", node.reshape(index, (samples, 1, -1)), node.ints([1, channels, 1]))
    read = node.reshape(node.emit("GatherElements", flat, wide, axis=2), (samples, channels, count, -1))
    product = node.emit("Mul", read, node.reshape(weight, (samples, 1, count, -1)))
    return node.reshape(node.reduce("ReduceSum", product, [3], keepdims=0), result)


@dataclass(frozen=True)
class _Axis:
    """One axis of the map, `length` long, and how places on it are read."""

    node: Site
    length: int
    mode: str
    padding: str

    def number(self, value: object) -> str:
        return self.node.number(value, self.node.inputs[1])

    def neighbours(self, place: str) -> tuple[str, str]:
        """Return the indices (int64) and weights, [N, P, T], of the neighbours of places [N, P, 1] in -1 to 1."""
        emit, (first, kernel) = self.node.emit, _KERNELS[self.mode]
        c = self.position(place)
        if self.mode == "nearest":
            c = emit("Round", c)
        if self.mode != "cubic":  # whose neighbours are moved inside one by one
            c = self.inside(c)
        base = emit("Round" if self.mode == "nearest" else "Floor", c)
        index = emit("Add", base, self.number(first + np.arange(len(kernel))))
        last = self.number(self.length - 1)
        valid = emit("And", emit("GreaterOrEqual", index, self.number(0)), emit("LessOrEqual", index, last))
        weight = self.node.cast_like(valid, self.node.inputs[1])
        if self.mode != "nearest":
            weights = self.weights(emit("Sub", c, base), kernel)
            weight = emit("Mul", weights, weight) if self.padding == "zeros" else weights
        if self.mode == "cubic":
            index = self.inside(index)
        index = emit("Clip", index, self.number(0), last)
        return emit("Cast", index, to=7), weight  # INT64

    def weights(self, f: str, kernel: np.ndarray) -> str:
        powers = [self.node.emit("Add", self.node.emit("Mul", f, self.number(0)), self.number(1)), f]
        while len(powers) < len(kernel):
            powers.append(self.node.emit("Mul", powers[-1], f))
        return self.node.emit("MatMul", self.node.emit("Concat", *powers, axis=-1), self.number(kernel))

    def position(self, place: str) -> str:
        """Return places in elements: -1 and 1 are the centres of the outermost, or their outer edges."""
        if self.node.attribute("align_corners", 0):
            factor, shift = (self.length - 1) / 2, (self.length - 1) / 2
        else:
            factor, shift = self.length / 2, (self.length - 1) / 2
        scaled = self.node.emit("Mul", place, self.number(factor))
        return self.node.emit("Add", scaled, self.number(shift))

    def inside(self, c: str) -> str:
        """Return positions moved to where they are read: clamped, mirrored, or as they are (zeros)."""
        if self.padding == "zeros":
            return c
        if self.padding == "reflection":
            c = self.mirrored(c)
        return self.node.emit("Clip", c, self.number(0), self.number(self.length - 1))

    def mirrored(self, c: str) -> str:
        """r = d - span floor(d / span), d the distance from the low edge; backwards in every second span."""
        emit = self.node.emit
        aligned = self.node.attribute("align_corners", 0)
        low, span = (0.0, self.length - 1.0) if aligned else (-0.5, float(self.length))
        if span == 0:
            return emit("Mul", c, self.number(0))
        distance = emit("Abs", emit("Sub", c, self.number(low)))
        turns = emit("Floor", emit("Div", distance, self.number(span)))
        rest = emit("Sub", distance, emit("Mul", turns, self.number(span)))
        pairs = emit("Floor", emit("Mul", turns, self.number(0.5)))
        odd = emit("Sub", turns, emit("Add", pairs, pairs))
        back = emit("Mul", odd, emit("Sub", self.number(span), emit("Add", rest, rest)))
        return emit("Add", emit("Add", rest, back), self.number(low))


@register("AffineGrid")
def affine_grid(node: Site) -> Outcome:
    """grid[n, p] = theta[n] (place p of an untouched grid, 1)."""
    theta = node.inputs[0]
    size = node.constant(1, "size")
    if size is None:
        raise UnsupportedError("its size must be a constant")
    spatial = [int(length) for length in size[2:]]
    axes = [_steps(length, bool(node.attribute("align_corners", 0))) for length in spatial]
    places = np.stack([*np.meshgrid(*axes, indexing="ij")[::-1], np.ones(spatial)], axis=-1)
    moved = node.emit(
        "MatMul",
        node.number(places.reshape(-1, len(spatial) + 1), theta),
        node.emit("Transpose", theta, perm=[0, 2, 1]),
    )
    return node.reshape(moved, [int(size[0]), *spatial, len(spatial)])


def _steps(length: int, aligned: bool) -> np.ndarray:
    """Return the centres of the elements of an axis from -1 to 1; `aligned`: the outermost lie at -1 and 1."""
    if aligned:
        return np.linspace(-1, 1, length) if length > 1 else np.zeros(1)
    return (2 * np.arange(length) + 1) / length - 1

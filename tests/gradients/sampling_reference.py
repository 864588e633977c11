"""GridSample and AffineGrid in numpy, place by place: onnx.reference computes in float32 or knows new names only."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun

Array = NDArray[Any]
A = -0.75


def _cubic(distance: float) -> float:
    d = abs(distance)
    if d <= 1:
        return (A + 2) * d**3 - (A + 3) * d**2 + 1
    return A * d**3 - 5 * A * d**2 + 8 * A * d - 4 * A if d < 2 else 0.0


def _reflected(c: float, low: float, high: float) -> float:
    if low == high:
        return low
    while not low <= c <= high:
        c = 2 * low - c if c < low else 2 * high - c
    return c


def _read(c: float, n: int, mode: str, padding: str, aligned: int) -> list[tuple[int, float]]:
    """Return (index, weight) of what a coordinate in -1 to 1 reads from an axis of n elements."""
    place = (c + 1) / 2 * (n - 1) if aligned else ((c + 1) * n - 1) / 2
    ends = (0, n - 1) if aligned else (-0.5, n - 0.5)

    def inside(p: float) -> float:
        if padding == "reflection":
            p = _reflected(p, *ends)
        return p if padding == "zeros" else min(max(p, 0), n - 1)

    if mode == "nearest":
        found = [(int(inside(float(np.round(place)))), 1.0)]
    elif mode == "linear":
        place = inside(place)
        first = int(np.floor(place))
        found = [(first, 1 - (place - first)), (first + 1, place - first)]
    else:
        first = int(np.floor(place))
        found = [(int(inside(i)), _cubic(place - i)) for i in range(first - 1, first + 3)]
    return [(i, w) for i, w in found if 0 <= i < n]


class GridSample64(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(
        self, x: Array, grid: Array, align_corners: int = 0, mode: str = "linear", padding_mode: str = "zeros"
    ) -> tuple[Array]:
        mode = {"bilinear": "linear", "bicubic": "cubic"}.get(mode or "linear", mode or "linear")
        y = np.zeros((*x.shape[:2], *grid.shape[1:-1]), x.dtype)
        for place in np.ndindex(grid.shape[:-1]):
            axes = [
                _read(float(c), n, mode, padding_mode or "zeros", align_corners or 0)
                for c, n in zip(grid[place][::-1], x.shape[2:], strict=True)
            ]
            for taps in itertools.product(*axes):
                index = tuple(i for i, _ in taps)
                y[(place[0], slice(None), *place[1:])] += (
                    float(np.prod([w for _, w in taps])) * x[(place[0], slice(None), *index)]
                )
        return (y,)


class AffineGrid64(OpRun):  # type: ignore[misc]
    op_domain = ""

    def _run(self, theta: Array, size: Array, align_corners: int = 0) -> tuple[Array]:
        spatial = [int(n) for n in size[2:]]
        grid = np.zeros((int(size[0]), *spatial, len(spatial)), theta.dtype)
        for place in np.ndindex(*spatial):
            point = [
                (2 * i / (n - 1) - 1 if align_corners else (2 * i + 1) / n - 1)
                for i, n in zip(place, spatial, strict=True)
            ]
            grid[(slice(None), *place)] = theta @ np.array([*point[::-1], 1.0], theta.dtype)
        return (grid,)


GridSample64.__name__, AffineGrid64.__name__ = "GridSample", "AffineGrid"
SAMPLING = [GridSample64, AffineGrid64]

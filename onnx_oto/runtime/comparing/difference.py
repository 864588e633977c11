"""How far two arrays differ, and what counts as equal."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from onnx_oto.runtime.comparing.inputs import Array

TOLERANCE = {np.dtype(np.float64): 1e-8, np.dtype(np.float32): 1e-4, np.dtype(np.float16): 2e-2}
"""Largest difference allowed, relative to an output's largest magnitude, by the output's data type.

Compact and full model sum the same terms in another order; nothing else differs.
"""
BFLOAT16 = 2e-2
"""The same of outputs of a model that is stored as bfloat16 and run as float32: constants are rounded when stored."""
FLOOR = 1e-2
"""Outputs whose largest magnitude is below this are compared absolutely, as if it were this: the kernels of
Sigmoid and Softmax are exact to a few units in the last place of 1, not of their result."""


SLICE = 16
"""Slices of at least so many values (a channel, a column of scores) are judged by their own largest magnitude too."""
SLICE_SLACK = 10.0
"""How much more a slice may differ, relative to its own magnitude: over 250 models it was 1.4e-4 at most (float32)."""
SLICE_FLOOR = 1e-3
"""What the magnitude of a slice counts as at least, as a share of the whole output's: rounding does not stay inside."""
CLOSE = 0.1
"""Models whose results are apart by no more than this share of what other inputs change agree on those changes."""
VARIES = 1e-6
"""Outputs that change by less than this, relative to their largest magnitude, are constant but for rounding."""


class Difference(NamedTuple):
    """Whether it is within the tolerance; the largest one, and the same relative to max |a| (at least FLOOR).

    sliced: the largest one relative to its slice, by SLICE_SLACK.
    """

    ok: bool
    absolute: float
    relative: float
    sliced: float = 0.0

    @property
    def measure(self) -> float:
        """What is compared with a tolerance."""
        return max(self.relative, self.sliced)


DIFFERENT = Difference(False, float("inf"), float("inf"))


def difference(a: Array, b: Array, allowed: float | None = None) -> Difference:
    """Return how far b is from a. Not a number and infinities must stand at the same places.

    Integers and booleans must be equal. allowed: of floats, instead of the tolerance of their data type.
    """
    if a.shape != b.shape or a.dtype != b.dtype:
        return DIFFERENT
    if a.dtype.kind in "OSU":
        return Difference(True, 0.0, 0.0) if np.array_equal(a, b) else DIFFERENT
    x, y = _wide(a), _wide(b)
    finite = np.isfinite(x)
    if not np.array_equal(finite, np.isfinite(y)) or not np.array_equal(
        x[~finite], y[~finite], equal_nan=True
    ):
        return DIFFERENT
    absolute = float(np.abs(x[finite] - y[finite]).max(initial=0.0))
    relative = absolute / max(float(np.abs(x[finite]).max(initial=0.0)), FLOOR)
    sliced = _worst_slice(x, y) / SLICE_SLACK if absolute else 0.0
    found = Difference(True, absolute, relative, sliced)
    limit = tolerance(a.dtype) if allowed is None or a.dtype.kind != "f" else allowed
    return found._replace(ok=found.measure <= limit)


def _worst_slice(x: Array, y: Array) -> float:
    """Return the largest difference in a slice across an axis behind the first, relative to the slice's own magnitude.

    So an error in scores does not hide behind the boxes of pixels beside them.
    """
    if x.ndim < 2 or not np.isfinite(x).all():
        return 0.0
    size, apart = np.abs(x), np.abs(x - y)
    floor = max(FLOOR, SLICE_FLOOR * float(size.max(initial=0.0)))
    worst = 0.0
    for axis in range(1, x.ndim):
        if x.size < SLICE * x.shape[axis]:
            continue
        others = tuple(i for i in range(x.ndim) if i != axis)
        scale = np.maximum(size.max(others, initial=0.0), floor)
        worst = max(worst, float((apart.max(others, initial=0.0) / scale).max(initial=0.0)))
    return worst


def tolerance(dtype: np.dtype[np.generic]) -> float:
    """Return the largest relative difference that counts as equal; none for whole numbers."""
    return 0.0 if dtype.kind in "iub" else TOLERANCE.get(dtype, 1e-4)


def varies(a: Array, b: Array, apart: float = np.inf) -> bool:
    """Say whether two results of one output, from other inputs, maybe of other sizes, show that models agree on it.

    They hold finite values that differ by more than `difference` forgives, else a constant would pass for the output;
    or by far more than the models do (`apart`, the largest absolute difference). Where shapes differ, what both have
    at the same place is looked at.
    """
    if a.ndim != b.ndim or a.dtype.kind in "OSU":
        return False
    common = tuple(slice(min(one, other)) for one, other in zip(a.shape, b.shape, strict=True))
    x, y = _wide(a[common]), _wide(b[common])
    finite = np.isfinite(x) & np.isfinite(y)
    moved = float(np.abs(x[finite] - y[finite]).max(initial=0.0))
    scale = float(np.abs(x[finite]).max(initial=0.0))
    if moved > tolerance(a.dtype) * max(scale, FLOOR):
        return True
    return moved > VARIES * scale and apart <= CLOSE * moved


def _wide(a: Array) -> Array:
    return a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)

"""Scores of lanes from the weights alone: what `prune` ranks by."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.groups import loaded_slices

_BLOCK, _PART = 1 << 18, 1 << 18
_DOTS = range(64, 8192)
"""Elements next to each other that are summed as a product of vectors: of more BLAS would use several threads."""
FloatArray = npt.NDArray[np.float64]


def magnitude(analysis: Analysis, seed: int) -> FloatArray:
    """Return the root mean square of every lane's group, relative to its dimension's mean: float64 [lanes].

    A group with values that are not finite counts as larger than any other: it stays as long as others are there.
    """
    squares = np.zeros(analysis.lanes.count)
    sizes = np.zeros(analysis.lanes.count)
    for piece, weight in loaded_slices(analysis):
        if piece.lanes.size:
            first = int(piece.lanes.min())  # most have few of all lanes, next to each other
            its = piece.lanes - first
            added = np.bincount(its, sums_of_squares(weight, piece.axis))
            squares[first : first + added.size] += added
            sizes[first : first + added.size] += np.bincount(its) * (weight.size // weight.shape[piece.axis])
    score = np.sqrt(squares / np.maximum(sizes, 1))
    for dimension in analysis.prunable:
        found = score[dimension.lanes]
        finite = np.isfinite(found)
        found[~finite] = 2 * found[finite].max(initial=1.0)
        score[dimension.lanes] = found / (found.mean() or 1.0)
    return score


def sums_of_squares(weight: npt.NDArray[Any], axis: int) -> FloatArray:
    """Return the sum of squares of every index of an axis: float64 [size], summed in float32 over a block at most."""
    wide = np.float64 if weight.itemsize > 4 else np.float32
    rows = weight.reshape(math.prod(weight.shape[:axis]), weight.shape[axis], -1)
    total = np.zeros(rows.shape[1])
    step = max(1, _BLOCK // (math.prod(rows.shape[1:]) or 1))
    for begin in range(0, len(rows), step):
        total += _squares(rows[begin : begin + step], wide)
    return total


def _squares(block: npt.NDArray[Any], wide: type[np.floating]) -> npt.NDArray[np.floating]:
    """Return the sum of squares of every index of axis 1 of [b, n, a], of that type.

    What lies at an odd address is copied, a part at a time if the indices have nothing to do with each other.
    """
    if block.flags.aligned or block.dtype != wide:
        block = block.astype(wide, copy=False)
        return _summed(block)
    count, size = block.shape[1:]
    step = max(1, _PART // (size or 1)) if len(block) == 1 and size > 1 else count
    parts = [block[:, begin : begin + step].copy() for begin in range(0, count, step)]
    return np.concatenate([_summed(part) for part in parts])


def _summed(block: npt.NDArray[Any]) -> npt.NDArray[np.floating]:
    if block.shape[2] in _DOTS and hasattr(np, "vecdot"):  # numpy 1 has none
        return np.asarray(np.vecdot(block, block).sum(0))
    return np.asarray(np.einsum("bna,bna->n", block, block))


def random(analysis: Analysis, seed: int) -> FloatArray:
    """Return random scores, uniform in [0, 1)."""
    return np.random.default_rng(seed).random(analysis.lanes.count)


SCORES: dict[str, Callable[[Analysis, int], FloatArray]] = {"magnitude": magnitude, "random": random}
WITHOUT_WEIGHTS = frozenset({"random"})
"""Those that need no weights, so that models of any size can be looked at."""


def score(analysis: Analysis, by: str, seed: int = 0) -> FloatArray:
    """Return the scores `by` name, float64 [lanes], larger is more important; UsageError for an unknown name."""
    if by not in SCORES:
        raise UsageError(f"there is no score '{by}': choose one of {', '.join(SCORES)}")
    return SCORES[by](analysis, seed)

"""Scores of lanes from the weights alone: what `prune` ranks by."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.zigs.analysis import Analysis
from onnx_oto.zigs.groups import group_slices

FloatArray = npt.NDArray[np.float64]


def magnitude(analysis: Analysis, seed: int) -> FloatArray:
    """Return the root mean square of every lane's group, relative to its dimension's mean: float64 [lanes]."""
    squares = np.zeros(analysis.lanes.count)
    sizes = np.zeros(analysis.lanes.count)
    for piece in group_slices(analysis):
        weight = analysis.graph.constant(piece.param)
        if weight is None:
            continue
        axes = tuple(i for i in range(weight.ndim) if i != piece.axis)
        values = np.square(weight, dtype=np.float64 if weight.itemsize > 4 else np.float32)
        squares += np.bincount(piece.lanes, values.sum(axes, dtype=np.float64), squares.size)
        sizes += np.bincount(piece.lanes, minlength=sizes.size) * (weight.size // weight.shape[piece.axis])
    score = np.sqrt(squares / np.maximum(sizes, 1))
    for dimension in analysis.prunable:
        score[dimension.lanes] /= score[dimension.lanes].mean() or 1.0
    return score


def random(analysis: Analysis, seed: int) -> FloatArray:
    """Return random scores, uniform in [0, 1)."""
    return np.random.default_rng(seed).random(analysis.lanes.count)


SCORES: dict[str, Callable[[Analysis, int], FloatArray]] = {"magnitude": magnitude, "random": random}


def score(analysis: Analysis, by: str, seed: int = 0) -> FloatArray:
    """Return the scores `by` name, float64 [lanes], larger is more important; UsageError for an unknown name."""
    if by not in SCORES:
        raise UsageError(f"there is no score '{by}': choose one of {', '.join(SCORES)}")
    return SCORES[by](analysis, seed)

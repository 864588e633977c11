"""Whether weights were learned, from their values alone.

What an initialiser draws is independent: put into another order it is another draw of the same kind. Training adds
directions that many rows share, which shuffling destroys, and the largest singular value s(W) tells: with rows and
columns of W scaled to the same norm, and W_1 ... W_9 the same elements in random order,

    structure = mean over the weights of log(s(W) / max_i s(W_i)).

Below 0 nothing stands out. Measured (docs/training.md): -0.02 and less for 90 models with fresh weights, 0.005 to 0.6
for 19 trained ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

SHUFFLES = 9
MOST = 24
"""So many weights at most are looked at, spread over the model."""
LEAST_SIDE, LEAST_SIZE = 4, 64
"""Smaller matrices say nothing."""
ROWS, COLUMNS = 128, 512
"""Of larger matrices so many rows and columns are drawn."""


def structure(weights: Iterable[Array], rng: np.random.Generator) -> float | None:
    """Return how far the weights are from independent draws, as above; None when none is large enough to tell.

    Vectors and small matrices count for nothing; the axes behind the first are taken as one.

    >>> rng = np.random.default_rng(0)
    >>> drawn = rng.standard_normal((32, 64))
    >>> learned = drawn + np.outer(rng.standard_normal(32), rng.standard_normal(64))
    >>> structure([drawn], rng) < 0 < structure([learned], rng)
    True
    """
    matrices = [each.reshape(len(each), -1) for each in weights if each.ndim > 1]
    matrices = [m for m in matrices if min(m.shape) >= LEAST_SIDE and m.size >= LEAST_SIZE]
    if len(matrices) > MOST:
        matrices = [matrices[i] for i in np.linspace(0, len(matrices) - 1, MOST).round().astype(int)]
    found = [_excess(part, rng) for matrix in matrices if (part := _balanced(_drawn(matrix, rng))).any()]
    return float(np.mean(found)) if found else None


def shuffled(value: Array, rng: np.random.Generator) -> Array:
    """Return the same elements in random order."""
    return rng.permutation(value.reshape(-1)).reshape(value.shape)


def _drawn(matrix: Array, rng: np.random.Generator) -> Floats:
    """Return the matrix, lying, or as much of it as is looked at."""
    part = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    for axis, most in enumerate((ROWS, COLUMNS)):
        if part.shape[axis] > most:
            part = part.take(rng.permutation(part.shape[axis])[:most], axis)
    return part.astype(np.float64)


def _balanced(matrix: Floats) -> Floats:
    """Return the matrix with every row, and then every column, of mean square 1: folded scales are no structure."""
    for axis in (1, 0):
        size = np.sqrt(np.square(matrix).mean(axis, keepdims=True))
        matrix = matrix / np.where(size > 0, size, 1.0)
    return matrix


def _excess(matrix: Floats, rng: np.random.Generator) -> float:
    others = max(_largest(shuffled(matrix, rng)) for _ in range(SHUFFLES))
    return float(np.log(_largest(matrix) / others))


def _largest(matrix: Floats) -> float:
    """Return the largest singular value."""
    return float(np.sqrt(np.linalg.eigvalsh(matrix @ matrix.T)[-1]))

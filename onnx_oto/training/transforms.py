"""What happens to a gradient between the session and the optimizer: plain functions over the flat buffer, in place.

A `GradientTransform` gets the mean gradient of a step, finite, and may change it; `Recipe.transforms` are applied in
their order. A new one is a function, or a frozen dataclass that is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import UsageError
from onnx_oto.optim.away import away

Floats = npt.NDArray[np.float32]
GradientTransform = Callable[[Floats], None]

_PIECE = 1 << 16  # elements whose squares are added up in float32


@dataclass(frozen=True)
class ClipNorm:
    """Scale a gradient that is longer than `limit` (Euclidean, over all parameters) down to that length."""

    limit: float

    def __post_init__(self) -> None:
        if not 0 < self.limit < math.inf:
            raise UsageError(f"clip-norm {self.limit}: give a positive number")

    def __call__(self, grads: Floats) -> None:
        """See `GradientTransform`."""
        norm = math.sqrt(square_norm(grads))
        if norm > self.limit:
            np.multiply(grads, np.float32(self.limit / norm), out=grads)


class Mean:
    """The mean of the gradients of `count` batches, in the buffer that the session fills anew for each of them."""

    def __init__(self, grads: Floats, count: int) -> None:
        self._grads, self._count = grads, count
        self._sum = np.zeros_like(grads) if count > 1 else grads

    def add(self, number: int) -> None:
        """Take the gradient of batch `number` of the step, from 0; after the last the buffer holds the mean."""
        if self._count == 1:
            return
        if number == 0:
            np.copyto(self._sum, self._grads)
        else:
            np.add(self._sum, self._grads, out=self._sum)
        if number == self._count - 1:
            np.multiply(self._sum, np.float32(1 / self._count), out=self._grads)


def square_norm(x: Floats) -> float:
    """Return <x, x>; not finite only where an element of x is not.

    Summed in float32 within a piece and in float64 across; all in float64 where float32 overflows.

    >>> square_norm(np.array([3e25, 4e25], np.float32)) > 2.4e51
    True
    """
    if (there := away(x)) is not None:
        total = there.square_norm()
        if math.isfinite(total):
            return total
        x = np.asarray(x)
    pieces = [x[start : start + _PIECE] for start in range(0, x.size, _PIECE)]
    with np.errstate(over="ignore", invalid="ignore"):
        total = math.fsum(float(np.dot(piece, piece)) for piece in pieces)
    if math.isfinite(total):
        return total
    wide = (piece.astype(np.float64) for piece in pieces)
    return sum(float(np.dot(piece, piece)) for piece in wide)

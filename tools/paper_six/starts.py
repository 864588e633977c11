"""First values of parameters, as the code of the papers draws them.

A weight has the shape [out, in / groups, kernel...]; as in PyTorch fan-in is the product of all axes but the first and
fan-out that of all but the second, also where a transposed convolution has the two the other way round.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], Array]


@dataclass(frozen=True)
class Start:
    """How a layer begins: its weight by `weight(rng, shape)`, its bias by `bias(rng, shape of the weight, length)`."""

    weight: Draw
    bias: Callable[[np.random.Generator, Shape, int], Array]


def fan_in(shape: Shape) -> int:
    """Return how many numbers are summed up for one of the result.

    >>> fan_in((8, 3, 5, 5))
    75
    """
    return math.prod(shape[1:])


def fan_out(shape: Shape) -> int:
    """Return how many numbers of the result one that is read goes into, at stride 1.

    >>> fan_out((8, 3, 5, 5))
    200
    """
    return shape[0] * math.prod(shape[2:])


def normal(deviation: float | Callable[[Shape], float]) -> Draw:
    """Return a draw from N(0, deviation^2)."""

    def draw(rng: np.random.Generator, shape: Shape) -> Array:
        wide = deviation(shape) if callable(deviation) else deviation
        return rng.normal(0.0, wide, shape).astype(np.float32)

    return draw


def he(fan: Callable[[Shape], int]) -> Draw:
    """Return a draw from N(0, 2 / fan), for layers in front of ReLU (He et al. 2015)."""
    return normal(lambda shape: math.sqrt(2.0 / fan(shape)))


def uniform(rng: np.random.Generator, shape: Shape) -> Array:
    """Return what PyTorch gives a layer of itself: uniform within 1 / sqrt(fan-in)."""
    bound = 1.0 / math.sqrt(fan_in(shape))
    return rng.uniform(-bound, bound, shape).astype(np.float32)


def uniform_bias(rng: np.random.Generator, shape: Shape, length: int) -> Array:
    """Return what PyTorch gives the bias of a layer with a weight of this shape."""
    bound = 1.0 / math.sqrt(fan_in(shape))
    return rng.uniform(-bound, bound, length).astype(np.float32)


def no_bias(rng: np.random.Generator, shape: Shape, length: int) -> Array:
    """Return zeros."""
    return np.zeros(length, np.float32)


TORCH = Start(uniform, uniform_bias)
"""What PyTorch's layers begin with where the code says nothing."""
HE_OUT = Start(he(fan_out), no_bias)
HE_IN = Start(he(fan_in), no_bias)
TRUNCATED = Start(normal(0.02), no_bias)
"""`trunc_normal_(std=0.02)` of ConvNeXt: it cuts at 2, a hundred deviations away."""

"""Weights in another form, which graphs read as inputs: made once per step for all shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from onnx_oto.gradients.session.flat import aligned_zeros

Floats = NDArray[np.float32]

_PREFIX = "onnx_oto.made."


class Order(NamedTuple):
    """How a convolution's weight [groups * filters, channels, *kernel] is to lie in memory.

    turned: for the gradient of what is convolved: as [groups * channels, filters, *kernel], all axes of the kernel
    reversed. block: if not 0, both axes in blocks of this length, those of the second axis in front of those of the
    first behind the kernel (`runtime/turning.py`); the shape stays, and groups is 1. tile: if not 0, in tiles of so
    many filters, turned: channels, and behind them their order.
    """

    groups: int
    turned: bool
    block: int = 0
    tile: int = 0

    def input(self, weight: str) -> str:
        """Return the name of the input that is this weight in this order."""
        return f"{_PREFIX}{self.groups}.{int(self.turned)}.{self.block}.{self.tile}.{weight}"

    def tiled(self, weight: Sequence[int]) -> tuple[int]:
        """Return the shape of a weight [filters, channels, *kernel] in tiles.

        >>> Order(1, turned=True, tile=4).tiled((20, 6, 3, 3))
        (1447,)
        """
        filters, channels, *kernel = weight
        made, read = (channels, filters) if self.turned else (filters, channels)
        return (-(-made // self.tile) * self.tile * read * math.prod(kernel) + 1 + made,)


class Prepared:
    """The weights that inputs of graphs ask for in another order, made of those by name, which are read in place.

    arrays: by the name of the input, float32, contiguous, of the shapes that the inputs declare.
    """

    def __init__(self, inputs: Iterable[Any], weights: Mapping[str, Floats], threads: int) -> None:
        asked = {value.name: tuple(value.shape) for value in inputs if value.name.startswith(_PREFIX)}
        self.arrays = {name: aligned_zeros(math.prod(shape)).reshape(shape) for name, shape in asked.items()}
        rows = [self._row(name, weights) for name in asked]
        self._table = np.array(rows, np.int64).reshape(-1, 9)
        self._threads = threads

    @cached_property
    def _shares(self) -> list[int]:
        from onnx_oto.runtime.turning import shares  # loads the compiler

        return shares(self._table, self._threads)

    def make(self, pool: ThreadPoolExecutor) -> None:
        """Read the weights as they are now."""
        if not self.arrays:
            return
        from onnx_oto.runtime.turning import make  # loads the compiler

        first, *rest = pairwise(self._shares)
        others = [pool.submit(make, self._table, *share) for share in rest]
        make(self._table, *first)
        for other in others:
            other.result()

    def _row(self, name: str, weights: Mapping[str, Floats]) -> tuple[int, ...]:
        """Return a row of the table; see `turning.COLUMNS`."""
        groups, turned, block, tile, weight_name = name.removeprefix(_PREFIX).split(".", 4)
        weight = weights[weight_name]
        sizes = len(weight) // int(groups), weight.shape[1], math.prod(weight.shape[2:])
        addresses = weight.ctypes.data, self.arrays[name].ctypes.data
        return *addresses, int(groups), *sizes, int(block), int(turned), int(tile)

"""Weights in another form, which graphs read as inputs: made once per step for all shards."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_oto.gradients.session.flat import aligned_zeros

Floats = NDArray[np.float32]

_TURNED = "onnx_oto.turned."


def turned_input(weight: str, groups: int) -> str:
    """Return the input that is a convolution's weight for the gradient of what it convolves.

    [groups * filters, channels, *kernel] as [groups * channels, filters, *kernel], with all axes of the kernel
    reversed.
    """
    return f"{_TURNED}{groups}.{weight}"


class Prepared:
    """The forms that inputs of graphs ask for, made of weights by name, which are read in place.

    arrays: the forms by the name of the input, float32, contiguous, of the shapes that the inputs declare.
    """

    def __init__(self, inputs: Iterable[Any], weights: Mapping[str, Floats], threads: int) -> None:
        asked = {value.name: tuple(value.shape) for value in inputs if value.name.startswith(_TURNED)}
        self.arrays = {name: aligned_zeros(math.prod(shape)).reshape(shape) for name, shape in asked.items()}
        rows = [self._row(name, weights) for name in asked]
        self._table = np.array(rows, np.int64).reshape(-1, 6)
        self._threads = threads

    def make(self, pool: ThreadPoolExecutor) -> None:
        """Read the weights as they are now."""
        if not self.arrays:
            return
        from onnx_oto.runtime.turning import slices, turn  # loads the compiler

        count = slices(self._table)
        bounds = [count * part // self._threads for part in range(self._threads + 1)]
        others = [
            pool.submit(turn, self._table, *bounds[part : part + 2]) for part in range(1, self._threads)
        ]
        turn(self._table, *bounds[:2])
        wait(others)

    def _row(self, name: str, weights: Mapping[str, Floats]) -> tuple[int, ...]:
        """Return a row of the table; see `turning.COLUMNS`."""
        number, _, weight_name = name.removeprefix(_TURNED).partition(".")
        groups, weight = int(number), weights[weight_name]
        filters, channels, taps = len(weight) // groups, weight.shape[1], math.prod(weight.shape[2:])
        return weight.ctypes.data, self.arrays[name].ctypes.data, groups, filters, channels, taps

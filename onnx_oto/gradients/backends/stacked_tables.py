"""Which place of a stacked tensor meets which: the tables that `runtime/stacked.py` follows."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int32]
_FLOAT = 4  # bytes


class Windows(NamedTuple):
    """Windows over an image: of what is read, height and width; pads above and left; places of what is made."""

    read: tuple[int, int]
    made: tuple[int, int]
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    pads: tuple[int, int]

    def taps(self) -> Iterator[tuple[int, int]]:
        return itertools.product(range(self.kernel[0]), range(self.kernel[1]))


class Tables(NamedTuple):
    """table: int32 [tiles, taps, places], bytes from a channel to what is read, -1 for nothing. places: int32
    [tiles, places], bytes to what is made.
    """

    table: Ints
    places: Ints


def forward(windows: Windows, samples: int, lanes: int, places: int) -> Tables:
    """Return the tables of a convolution or a pool: one tile after the other through what is made."""
    down, across, vector = _vectors(*windows.made, samples, lanes)

    def met(tap: tuple[int, int]) -> Ints:
        row, column = (
            at * stride - pad + one * dilation
            for at, stride, pad, one, dilation in zip(
                (down, across), windows.strides, windows.pads, tap, windows.dilations, strict=True
            )
        )
        return _bytes(row, column, vector, windows.read, samples, lanes)

    own = _bytes(down, across, vector, windows.made, samples, lanes)
    return _tiles([met(tap) for tap in windows.taps()], own, places)


def backward(windows: Windows, samples: int, lanes: int, places: int) -> Tables:
    """Return the tables of the gradient of what a convolution read.

    Places that meet the same taps of the kernel stand together: with strides, a tile skips the others.
    """
    down, across, vector = _vectors(*windows.read, samples, lanes)
    phase = (down + windows.pads[0]) % windows.strides[0] * windows.strides[1] + (
        across + windows.pads[1]
    ) % windows.strides[1]
    order = np.argsort(phase, kind="stable")
    down, across, vector = down[order], across[order], vector[order]

    def met(tap: tuple[int, int]) -> Ints:
        found, fits = [], np.ones(len(down), bool)
        for at, stride, pad, one, dilation in zip(
            (down, across), windows.strides, windows.pads, tap, windows.dilations, strict=True
        ):
            moved = at + pad - one * dilation
            fits &= moved % stride == 0
            found.append(moved // stride)
        row, column = found
        return np.where(fits, _bytes(row, column, vector, windows.made, samples, lanes), np.int32(-1))

    own = _bytes(down, across, vector, windows.read, samples, lanes)
    return _tiles([met(tap) for tap in windows.taps()], own, places)


class Spread(NamedTuple):
    """Where the weights of a convolution find what they met, once x is spread: see `runtime/stacked.py`.

    offsets: int32 [channels * taps], bytes. phases: down and across, those that weights meet at all. size: height and
    width of a phase. plain: x lies so already.
    """

    offsets: Ints
    phases: tuple[int, int]
    size: tuple[int, int]
    plain: bool


def spread(windows: Windows, channels: int, samples: int) -> Spread:
    """Return where weights [channels, *kernel] find what they met."""
    height, width = (
        max((kernel - 1) * dilation // stride + made, 1)
        for kernel, dilation, stride, made in zip(
            windows.kernel, windows.dilations, windows.strides, windows.made, strict=True
        )
    )
    plain = windows.strides == (1, 1) and windows.pads == (0, 0) and (height, width) == windows.read
    down, across = (
        min(stride, (kernel - 1) * dilation + 1)
        for stride, kernel, dilation in zip(windows.strides, windows.kernel, windows.dilations, strict=True)
    )
    offsets = []
    for channel, tap in itertools.product(range(channels), windows.taps()):
        row, column = (one * dilation for one, dilation in zip(tap, windows.dilations, strict=True))
        phase = (channel * down + row % windows.strides[0]) * across + column % windows.strides[1]
        place = (phase * height + row // windows.strides[0]) * width + column // windows.strides[1]
        offsets.append(place * samples * _FLOAT)
    return Spread(np.array(offsets, np.int32), (down, across), (height, width), plain)


def _vectors(height: int, width: int, samples: int, lanes: int) -> list[NDArray[np.int64]]:
    """Return row, column and vector of samples of every vector of a channel, in order."""
    grid = np.meshgrid(np.arange(height), np.arange(width), np.arange(samples // lanes), indexing="ij")
    return [each.reshape(-1) for each in grid]


def _bytes(
    row: NDArray[np.int64],
    column: NDArray[np.int64],
    vector: NDArray[np.int64],
    size: tuple[int, int],
    samples: int,
    lanes: int,
) -> Ints:
    """Return the bytes from the beginning of a channel to a vector, -1 outside."""
    inside = (row >= 0) & (row < size[0]) & (column >= 0) & (column < size[1])
    at = ((row * size[1] + column) * samples + vector * lanes) * _FLOAT
    return np.where(inside, at, -1).astype(np.int32)


def _tiles(taps: list[Ints], own: Ints, places: int) -> Tables:
    """Return tables in tiles; the last one makes some places once more if there are too few for it."""
    count = len(own)
    starts = np.minimum(np.arange(0, count, places), max(count - places, 0))
    chosen = np.minimum(starts[:, None] + np.arange(places), count - 1)
    return Tables(np.stack([tap[chosen] for tap in taps], axis=1), own[chosen])

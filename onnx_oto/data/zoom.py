"""A part of an image, enlarged to the size of the whole."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]


def zoomed(plane: Array, out: Array, box: Sequence[float], *, smooth: bool) -> None:
    """Write a part of an image [..., H, W] into `out` [..., H, W], of any dtype and strides.

    box: top, left, height and width of the part, in shares of H and W. Pixel i of n shows the place
    n * (first + (i + 1/2) / n * size) - 1/2 of its axis: with `smooth` weighted by distance between the two pixels
    beside it (in float32, rounded for an `out` of integers), else the pixel that this place lies in.

    >>> out = np.empty((2, 4))
    >>> zoomed(np.array([[0.0, 1, 2, 3], [4, 5, 6, 7]]), out, (0, 0.5, 1, 0.5), smooth=True)
    >>> out
    array([[1.75, 2.25, 2.75, 3.  ],
           [5.75, 6.25, 6.75, 7.  ]])
    """
    top, left, height, width = box
    if not smooth:
        rows, columns = _nearest(plane.shape[-2], top, height), _nearest(plane.shape[-1], left, width)
        out[...] = plane[..., rows[:, None], columns]
        return
    y, below, down = _between(plane.shape[-2], top, height)
    x, behind, right = _between(plane.shape[-1], left, width)
    image = plane.astype(np.float32, copy=False)
    lines = image[..., y, :]
    lines += (image[..., below, :] - lines) * down[:, None]
    values = lines[..., x]
    values += (lines[..., behind] - values) * right
    out[...] = values if out.dtype.kind == "f" else np.rint(values)


def _nearest(size: int, first: float, share: float) -> npt.NDArray[np.int64]:
    """Return the pixels that the places lie in: int64 [size]."""
    places = np.floor(first * size + (np.arange(size) + 0.5) * share)
    return np.asarray(np.clip(places, 0, size - 1), np.int64)


def _between(
    size: int, first: float, share: float
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Return the pixels before and behind the places, and how much of the one behind they show: [size] each."""
    places = np.clip(first * size + (np.arange(size) + 0.5) * share - 0.5, 0, size - 1)
    before = np.floor(places).astype(np.int64)
    return before, np.minimum(before + 1, size - 1), (places - before).astype(np.float32)

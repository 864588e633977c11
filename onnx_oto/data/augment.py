"""Random changes of training images, off unless asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.layout import spatial_axes
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Augment:
    """flip: mirror half of the images left to right. crop: shift by up to this many pixels, zeros move in."""

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise DataError(f"crop {self.crop}: the number of pixels cannot be negative")

    def __str__(self) -> str:
        parts = ["random flip left to right"] if self.flip else []
        parts += [f"random shift by up to {self.crop} pixels"] if self.crop else []
        return " and ".join(parts) or "no augmentation"


def augmented(images: Array, augment: Augment, rng: np.random.Generator) -> Array:
    """Return changed copies of images [n, H, W], [n, H, W, C] or [n, C, H, W], of any dtype, same shape.

    What happens to image i depends on the state of `rng` and on i alone. Raises DataError when height and
    width are not clear from the shape.
    """
    axes = spatial_axes(images.shape[1:])
    if axes is None:
        raise DataError(
            f"samples of shape {list(images.shape[1:])} have no clear height and width: no augmentation"
        )
    count, places = len(images), (axes[0] + 1, axes[1] + 1)
    mirror = rng.random(count) < 0.5
    shifts = rng.integers(0, 2 * augment.crop + 1, (2, count))
    planes = np.moveaxis(images, places, (-2, -1))
    if augment.flip:
        planes = np.where(mirror.reshape(-1, *[1] * (planes.ndim - 1)), planes[..., ::-1], planes)
    if augment.crop:
        planes = _shifted(planes, shifts, augment.crop)
    return np.moveaxis(planes, (-2, -1), places)


def _shifted(planes: Array, shifts: Array, most: int) -> Array:
    """Return planes [n, ..., H, W], image i cut out at `shifts[:, i]` of its zero-padded self."""
    height, width = planes.shape[-2:]
    border = [(0, 0)] * (planes.ndim - 2) + [(most, most)] * 2
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(planes, border), (height, width), axis=(-2, -1))
    # windows [n, ..., down, right, H, W]; the two offsets are picked per image.
    picked = np.moveaxis(windows, (-4, -3), (1, 2))
    cut: Array = picked[np.arange(len(planes)), shifts[0], shifts[1]]
    return cut

"""Brightness, contrast and saturation of images, in the range in which they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import DataError

Array = npt.NDArray[Any]

GREY = np.array([0.299, 0.587, 0.114], np.float32)
"""How much red, green and blue add to what an eye takes for brightness (ITU-R BT.601)."""
NAMES = ("brightness", "contrast", "saturation")


@dataclass(frozen=True)
class Ink:
    """How an array shows colours. channels: its axis of them in one stored sample, None for grey. top: white."""

    channels: int | None
    top: float


def recolour(values: Array, ink: Ink, factors: npt.NDArray[np.float64]) -> None:
    """Change floats [n, *stored] in place, factors [n, 3] of brightness, contrast and saturation.

    In this order, each bounded to [0, top]: x * b; m + (x - m) * c with the mean m of the image in grey;
    g + (x - g) * s with the grey g of the pixel. A factor of 1 changes nothing.
    """
    images = values if ink.channels is None else np.moveaxis(values, ink.channels + 1, 1)
    for image, (brightness, contrast, saturation) in zip(images, factors.tolist(), strict=True):
        if brightness != 1:
            np.clip(image * np.float32(brightness), 0, ink.top, out=image)
        if contrast != 1:
            _mix(image, np.float32(_grey(image, ink).mean()), contrast, ink.top)
        if saturation != 1 and ink.channels is not None and len(image) == len(GREY):
            _mix(image, _grey(image, ink), saturation, ink.top)


def _grey(image: Array, ink: Ink) -> Array:
    """Return an image [C, ...] in grey: [...]."""
    if ink.channels is None:
        return image
    if len(image) == 1:
        return np.asarray(image[0])
    red, green, blue = image * GREY.reshape(-1, *[1] * (image.ndim - 1))
    return np.asarray(red + green + blue)


def _mix(image: Array, grey: Any, share: float, top: float) -> None:
    mixed = image - grey
    mixed *= np.float32(share)
    mixed += grey
    np.clip(mixed, 0, top, out=image)


def check_unit(name: str, values: Array, rows: npt.NDArray[np.int64]) -> None:
    """Raise DataError naming the first sample of floats [n, ...] with a number outside [0, 1]."""
    flat = values.reshape(len(values), -1)
    bad = np.flatnonzero((flat < 0).any(axis=1) | (flat > 1).any(axis=1))
    if bad.size:
        sample = flat[bad[0]]
        value = sample[(sample < 0) | (sample > 1)][0]
        raise DataError(
            f"{name}[{rows[bad[0]]}] holds {value:g}: colours change in images of uint8, or of floats from 0 to 1: "
            f"store them so, or leave {', '.join(NAMES)} out"
        )

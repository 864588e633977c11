"""Metrics of images against images: PSNR and SSIM, of every image, averaged over the images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from onnx_oto.errors import DataError, UsageError
from onnx_oto.losses import Judged, Kind
from onnx_oto.metrics.metric import NUMBERS, Better, Floats, compared, ratio

_SIGMA, _RADIUS = 1.5, 5  # the window of Wang, Bovik, Sheikh and Simoncelli (2004): Gaussian, 11 x 11
_K1, _K2 = 0.01, 0.03


@dataclass(frozen=True)
class Psnr:
    """A metric (see `Metric`): 10 log10(range^2 / mean squared error) of an image in decibels.

    range: between the least and the largest value that an image may have.
    """

    range: float = 1.0

    name: ClassVar[str] = "psnr"
    text: ClassVar[str] = "peak signal-to-noise ratio in dB; values span `range`"
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 1.0
    compares: ClassVar[tuple[Kind, ...]] = NUMBERS

    def __post_init__(self) -> None:
        _check_range(self.name, self.range)

    def start(self) -> ImageTally:
        """Return an empty tally."""
        return ImageTally(self)

    def of_images(self, prediction: Floats, target: Floats) -> Floats:
        """Return the measure of every image: [n, ...] -> [n], infinite where an image is met exactly."""
        errors = ((prediction - target) ** 2).reshape(len(target), -1).mean(axis=1)
        with np.errstate(divide="ignore"):
            decibels: Floats = 10 * np.log10(self.range**2 / errors)
        return decibels


@dataclass(frozen=True)
class Ssim:
    """A metric (see `Metric`): structural similarity of images [n, ..., height, width], mean over channels and places.

    Gaussian window of 11 x 11 and sigma 1.5, only where it lies within the image, K1 = 0.01, K2 = 0.03. range: between
    the least and the largest value that an image may have.
    """

    range: float = 1.0

    name: ClassVar[str] = "ssim"
    text: ClassVar[str] = "structural similarity; values span `range`"
    better: ClassVar[Better] = "higher"
    point: ClassVar[float | None] = 0.01
    compares: ClassVar[tuple[Kind, ...]] = NUMBERS

    def __post_init__(self) -> None:
        _check_range(self.name, self.range)

    def start(self) -> ImageTally:
        """Return an empty tally."""
        return ImageTally(self)

    def of_images(self, prediction: Floats, target: Floats) -> Floats:
        """Return the measure of every image: [n, ..., height, width] -> [n].

        Raises DataError for images that do not hold the window.
        """
        if target.ndim < 3 or min(target.shape[-2:]) < 2 * _RADIUS + 1:
            raise DataError(
                f"ssim: images have shape {list(target.shape[1:])}, the last two axes are height and width and need "
                f"at least {2 * _RADIUS + 1} pixels: use 'psnr'"
            )
        planes = zip(_planes(prediction), _planes(target), strict=True)
        found = np.array([self._of_plane(x, y) for x, y in planes])  # one by one: whole images are large
        means: Floats = found.reshape(len(target), -1).mean(axis=1)
        return means

    def _of_plane(self, prediction: Floats, target: Floats) -> float:
        """Return the measure of one channel of an image: [height, width]."""
        c1, c2 = (_K1 * self.range) ** 2, (_K2 * self.range) ** 2
        x, y = _blurred(prediction), _blurred(target)
        xx, yy, xy = (
            _blurred(a * b) - ma * mb
            for a, b, ma, mb in (
                (prediction, prediction, x, x),
                (target, target, y, y),
                (prediction, target, x, y),
            )
        )
        similarity = ((2 * x * y + c1) * (2 * xy + c2)) / ((x * x + y * y + c1) * (xx + yy + c2))
        return float(similarity.mean())


class ImageTally:
    """The sum of a measure over images, and how many there were."""

    def __init__(self, measure: Psnr | Ssim) -> None:
        self.measure = measure
        self.total = 0.0
        self.images = 0

    def add(self, batch: Judged) -> None:
        """See `Tally.add`."""
        prediction, target = compared(batch)
        self.total += float(self.measure.of_images(prediction, target).sum())
        self.images += len(target)

    def join(self, other: ImageTally) -> None:
        """See `Tally.join`."""
        self.total += other.total
        self.images += other.images

    @property
    def value(self) -> float:
        """The mean over the images."""
        return ratio(self.total, self.images)


def _blurred(x: Floats) -> Floats:
    """Return the Gaussian mean around every place of the last two axes whose window lies within the image."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    window = np.exp(-(offsets**2) / (2 * _SIGMA**2))
    window /= window.sum()
    for axis in (-2, -1):
        x = sliding_window_view(x, len(window), axis=axis) @ window
    return x


def _planes(images: Floats) -> Floats:
    """Return [n, ..., height, width] as [all others, height, width]."""
    return images.reshape(-1, *images.shape[-2:])


def _check_range(name: str, value: float) -> None:
    if not 0 < value < np.inf:
        raise UsageError(f"range of {name} is {value:g}: give a positive number, such as 1 or 255")

"""Random changes of training images, off unless asked for: drawn once per sample, applied to whatever shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Augment:
    """flip: mirror half of the images left to right. crop: shift by up to this many pixels."""

    flip: bool = False
    crop: int = 0

    def __post_init__(self) -> None:
        if self.crop < 0:
            raise DataError(f"crop {self.crop}: the number of pixels cannot be negative")

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0

    def __str__(self) -> str:
        parts = ["random flip left to right"] if self.flip else []
        parts += [f"random shift by up to {self.crop} pixels"] if self.crop else []
        return " and ".join(parts) or "no augmentation"


@dataclass(frozen=True, eq=False)
class Moves:
    """What happens to each of n samples: mirrored bool [n]; down, right int64 [n], steps to read from further on."""

    mirrored: npt.NDArray[np.bool_]
    down: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]


def draw(count: int, rng: np.random.Generator, *, flip: bool, steps: int) -> Moves:
    """Return what happens to `count` samples: mirrored half of the time, shifted by -steps to steps."""
    mirrored = rng.random(count) < 0.5
    shifts = rng.integers(0, 2 * steps + 1, (2, count)) - steps
    return Moves(mirrored & flip, shifts[0], shifts[1])


@dataclass(frozen=True)
class Framed:
    """How one array shows what is changed.

    axes: of height and width in one stored sample. unit: its pixels per step of a shift. fill: what moves in; None:
    the edge is repeated.
    """

    axes: tuple[int, int]
    unit: int = 1
    fill: int | None = 0


def write_changed(samples: Array, sink: Array, view: Framed, drawn: Moves) -> None:
    """Write changed samples [n, *stored] into `sink`, of the same shape and any dtype and strides.

    sink[r, c] = mirrored[r + down * unit, c + right * unit], per sample. One copy per image: sliding windows and
    gathers over the batch take 4 to 20 times as long (tools/bench_data.py).
    """
    axes = (view.axes[0] + 1, view.axes[1] + 1)
    planes, sinks = (np.moveaxis(array, axes, (-2, -1)) for array in (samples, sink))
    height, width = planes.shape[-2:]
    down, right = (
        _bounded(steps * view.unit, size) for steps, size in ((drawn.down, height), (drawn.right, width))
    )
    for plane, out, mirror, dy, dx in zip(planes, sinks, drawn.mirrored.tolist(), down, right, strict=True):
        image = plane[..., ::-1] if mirror else plane
        top, bottom, left, end = max(0, -dy), min(height, height - dy), max(0, -dx), min(width, width - dx)
        out[..., top:bottom, left:end] = image[..., top + dy : bottom + dy, left + dx : end + dx]
        if dy or dx:
            _fill(out, (top, bottom, left, end), view.fill)


def _bounded(shifts: npt.NDArray[np.int64], size: int) -> list[int]:
    """Return shifts that leave at least one line of the image."""
    bounded: list[int] = np.clip(shifts, 1 - size, size - 1).tolist()
    return bounded


def _fill(out: Array, box: tuple[int, int, int, int], value: int | None) -> None:
    """Fill everything but `out[..., top:bottom, left:end]`, with the nearest pixel of it when `value` is None."""
    top, bottom, left, end = box
    rows = out[..., top:bottom, :]
    rows[..., :left] = rows[..., left : left + 1] if value is None else value
    rows[..., end:] = rows[..., end - 1 : end] if value is None else value
    out[..., :top, :] = out[..., top : top + 1, :] if value is None else value
    out[..., bottom:, :] = out[..., bottom - 1 : bottom, :] if value is None else value

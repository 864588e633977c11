"""Random changes of training images, off unless asked for: drawn once per sample, applied to whatever shows it.

First an image is mirrored and shifted, then a part of it is enlarged (`zoom.py`), then its colours change and squares
of it are blanked (`colour.py`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.colour import Ink
from onnx_oto.data.zoom import zoomed
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

MOST_RATIO = 4 / 3
"""How much more of one side than of the other an enlarged part shows at most."""


@dataclass(frozen=True)
class Augment:
    """What is done to training images.

    flip: mirror half of the images left to right. crop: shift by up to this many pixels. zoom: enlarge a part, at least
    this share of the area, to the size of the whole; 1: never. cutout: blank a square with sides of so many pixels.
    brightness, contrast, saturation: change by a factor from 1 - x to 1 + x.
    """

    flip: bool = False
    crop: int = 0
    zoom: float = 1.0
    cutout: int = 0
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        for name in ("crop", "cutout"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} {getattr(self, name)}: the number of pixels cannot be negative")
        if not 0 < self.zoom <= 1:
            raise DataError(f"zoom {self.zoom:g}: give a share of the area, above 0 and up to 1")
        for name, value in self.colours.items():
            if not 0 <= value <= 1:
                raise DataError(f"{name} {value:g}: give a share from 0 to 1")

    def __bool__(self) -> bool:
        return self.flip or self.crop > 0 or self.zoom < 1 or self.cutout > 0 or self.inks

    def __str__(self) -> str:
        parts = ["random flip left to right"] if self.flip else []
        parts += [f"random shift by up to {self.crop} pixels"] if self.crop else []
        parts += [f"random parts of {self.zoom:g} to all of the area, enlarged"] if self.zoom < 1 else []
        parts += [f"{name} changed by up to {value:g}" for name, value in self.colours.items() if value]
        parts += [f"a random square of {self.cutout} pixels blanked"] if self.cutout else []
        *first, last = parts or ["no augmentation"]
        return f"{', '.join(first)} and {last}" if first else last

    @property
    def colours(self) -> dict[str, float]:
        """The changes of colour by name."""
        return {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}

    @property
    def inks(self) -> bool:
        """Whether colours change."""
        return any(self.colours.values())


_OPTIONAL = ("boxes", "holes", "inks")


@dataclass(frozen=True, eq=False)
class Moves:
    """What happens to each of n samples.

    mirrored bool [n]; down, right int64 [n], steps to read from further on. boxes, holes [n, 4], in shares of height
    and width: the part that is enlarged, as top, left, height, width, and what is blanked, as top, bottom, left, right.
    inks [n, 3]: factors of brightness, contrast and saturation. None: nothing of the kind.
    """

    mirrored: npt.NDArray[np.bool_]
    down: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    boxes: Floats | None = None
    holes: Floats | None = None
    inks: Floats | None = None

    def of(self, samples: npt.NDArray[np.int64]) -> Moves:
        """Return what happens to some of the samples."""
        others = {name: drawn[samples] for name in _OPTIONAL if (drawn := getattr(self, name)) is not None}
        return Moves(self.mirrored[samples], self.down[samples], self.right[samples], **others)


def draw(count: int, rng: np.random.Generator, *, flip: bool, steps: int) -> Moves:
    """Return what happens to `count` samples: mirrored half of the time, shifted by -steps to steps."""
    mirrored = rng.random(count) < 0.5
    shifts = rng.integers(0, 2 * steps + 1, (2, count)) - steps
    return Moves(mirrored & flip, shifts[0], shifts[1])


def draw_all(
    count: int, rng: np.random.Generator, augment: Augment, *, steps: int, image: tuple[int, int]
) -> Moves:
    """Return what happens to `count` samples. image: height and width that `cutout` is said for.

    What is not asked for takes nothing from the generator, but for flips and shifts, which come first: a kind of
    augmentation that is added changes nothing of the others before it.
    """
    drawn = draw(count, rng, flip=augment.flip, steps=steps)
    if augment.zoom < 1:
        drawn = replace(drawn, boxes=_boxes(count, rng, augment.zoom))
    if augment.cutout:
        drawn = replace(drawn, holes=_holes(count, rng, augment.cutout, image))
    if augment.inks:
        spans = np.array(list(augment.colours.values()))
        drawn = replace(drawn, inks=1 + rng.uniform(-1, 1, (count, 3)) * spans)
    return drawn


def _boxes(count: int, rng: np.random.Generator, least: float) -> Floats:
    """Return parts [n, 4] of an area from `least` to 1, and of any place and form within the image."""
    area = rng.uniform(least, 1, count)
    most = np.minimum(math.log(MOST_RATIO), -np.log(area))
    ratio = np.exp(rng.uniform(-1, 1, count) * most)
    height, width = np.sqrt(area * ratio), np.sqrt(area / ratio)
    room = 1 - np.minimum(np.stack([height, width]), 1)
    top, left = rng.random((2, count)) * room
    return np.stack([top, left, height, width], axis=1)


def _holes(count: int, rng: np.random.Generator, side: int, image: tuple[int, int]) -> Floats:
    """Return squares [n, 4] around pixels anywhere in the image; what is beyond its edges is left out."""
    sides = []
    for size in image:
        first = rng.integers(0, size, count) - side // 2
        sides += [np.clip(first, 0, size) / size, np.clip(first + side, 0, size) / size]
    return np.stack(sides, axis=1)


@dataclass(frozen=True)
class Framed:
    """How one array shows what is changed.

    axes: of height and width in one stored sample. unit: its pixels per step of a shift. fill: what moves in; None:
    the edge is repeated. smooth: numbers in between may be made; else they are those of the nearest pixel. blanks:
    whether squares are blanked. ink: how it shows colours, None where they do not change.
    """

    axes: tuple[int, int]
    unit: int = 1
    fill: int | None = 0
    smooth: bool = True
    blanks: bool = False
    ink: Ink | None = None


def write_changed(samples: Array, sink: Array, view: Framed, drawn: Moves) -> None:
    """Write moved samples [n, *stored] into `sink`, of the same shape and any dtype and strides.

    sink[r, c] = mirrored[r + down * unit, c + right * unit], per sample, of which then a part is enlarged. One copy per
    image: sliding windows and gathers over the batch take 4 to 20 times as long (tools/bench_data.py).
    """
    if drawn.boxes is None:
        _write_moved(samples, sink, view, drawn)
        return
    if drawn.mirrored.any() or drawn.down.any() or drawn.right.any():
        moved = np.empty_like(samples)
        _write_moved(samples, moved, view, drawn)
        samples = moved
    axes = (view.axes[0] + 1, view.axes[1] + 1)
    planes, sinks = (np.moveaxis(array, axes, (-2, -1)) for array in (samples, sink))
    for plane, out, box in zip(planes, sinks, drawn.boxes.tolist(), strict=True):
        zoomed(plane, out, box, smooth=view.smooth)


def blank(values: Array, view: Framed, holes: Floats) -> None:
    """Set squares of served samples, seen as they are stored, to 0, in place. holes: see `Moves`."""
    planes = np.moveaxis(values, (view.axes[0] + 1, view.axes[1] + 1), (-2, -1))
    height, width = planes.shape[-2:]
    edges = np.rint(holes * (height, height, width, width)).astype(np.int64).tolist()
    for plane, (top, bottom, left, right) in zip(planes, edges, strict=True):
        plane[..., top:bottom, left:right] = 0


def _write_moved(samples: Array, sink: Array, view: Framed, drawn: Moves) -> None:
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

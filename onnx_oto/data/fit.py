"""Samples in the form a model reads them, converted batch by batch: uint8 images stay uint8 in memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from onnx_oto.data.arrangement import Arrangement, Pattern, Shape, find_layout, spatial_axes
from onnx_oto.data.augment import Framed, Moves, blank, write_changed
from onnx_oto.data.colour import recolour
from onnx_oto.data.pages import Pages, pages_of
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.int64]

_LOT_BYTES = 1 << 22
"""How much of the samples is looked at together when values are checked; it bounds the temporary memory."""


@dataclass(frozen=True)
class Pixels:
    """How numbers are prepared: explicitly, never from the data. Applied after uint8 was scaled to [0, 1].

    mean, std: one number, or one per channel: (x - mean) / std. pad: zeros added on each side of height and
    width.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    pad: int = 0

    def __post_init__(self) -> None:
        if self.pad < 0:
            raise DataError(f"pad {self.pad}: the number of zeros per side cannot be negative")
        if any(not value > 0 for value in self.std):
            raise DataError(f"std {list(self.std)}: standard deviations are positive")


class Stored(Protocol):
    """Samples [N, *shape] as they are kept; a numpy array is one. Another kind decodes what it is asked for."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __len__(self) -> int: ...
    def __getitem__(self, rows: Rows, /) -> Array:
        """Return the samples at int64 rows [n, *shape], in `dtype`."""
        ...


Check = Callable[[Array, Rows], None]
"""Raises DataError when samples, whose numbers are given, hold what cannot be used; the message names one."""


@dataclass(frozen=True, eq=False)
class Column:
    """The samples of an input or a target: stored [N, *stored], served as C-contiguous [n, *shape] of `dtype`.

    check: of samples that could not be looked at before they are asked for.
    """

    stored: Stored
    layout: Arrangement
    dtype: np.dtype[Any]
    pad: int = 0
    factor: Array | None = (
        None  # x * factor + shift in `dtype`, broadcast against a sample; None: no arithmetic
    )
    shift: Array | None = None
    check: Check | None = None

    def __len__(self) -> int:
        return len(self.stored)

    @property
    def shape(self) -> Shape:
        """The shape of one sample as served."""
        return self.layout.shape

    @cached_property
    def _pages(self) -> Pages | None:
        return pages_of(self.stored)

    def take(self, rows: Rows, view: Framed | None = None, drawn: Moves | None = None) -> Array:
        """Return the samples at `rows`, converted; changed as `drawn` says where `view` tells how they show it."""
        samples = self.stored[rows]
        if self._pages is not None:
            self._pages.count(len(rows), math.prod(self.stored.shape[1:]) * self.stored.dtype.itemsize)
        if self.check is not None:
            self.check(samples, rows)
        if self.pad:
            samples = _with_border(samples, self.pad)
        values = np.empty((len(samples), *self.shape), self.dtype)
        sink = self.layout.as_stored(values, samples.shape[1:])
        if view is not None and drawn is not None:
            write_changed(samples, sink, view, drawn)
            if view.ink is not None and drawn.inks is not None:
                recolour(sink, view.ink, drawn.inks)
        else:
            np.copyto(sink, samples, casting="unsafe")  # `fit` has judged the types
        if self.factor is not None:
            np.multiply(values, self.factor, out=values)
        if self.shift is not None:
            np.add(values, self.shift, out=values)
        if view is not None and view.blanks and drawn is not None and drawn.holes is not None:
            blank(sink, view, drawn.holes)  # 0 is what the model reads there: with a mean, the mean
        return values


def fit(
    samples: Stored,
    input_shape: Pattern,
    dtype: npt.DTypeLike,
    *,
    name: str = "x",
    pixels: Pixels | None = None,
) -> tuple[Column, str]:
    """Return samples [N, ...] as a model input reads them, and one sentence that says what is done to them.

    `input_shape` is the shape of one sample, without the batch axis, None for open sizes. uint8 for a
    floating-point input is scaled to [0, 1]; other numbers are converted where nothing is lost but
    float64's last digits. The layout follows `arrangement.py`. Raises DataError: no way to the shape, floats for
    an integer input, or a value that is not finite (the message names the sample, `name[17]`).
    """
    pixels = pixels or Pixels()
    kind = np.dtype(dtype)
    stored = samples.shape[1:]
    layout = input_layout(name, stored, input_shape, pixels.pad)
    steps = [f"{name}: {len(samples)} samples {_text(stored)} {samples.dtype}"]
    if pixels.pad:
        steps.append(f"padded with {pixels.pad} zeros on each side")
    steps.append(f"{layout.text}, {_text(layout.shape)}")
    scale = _scale(name, samples.dtype, kind)
    if scale is not None:
        steps.append("scaled from 0..255 to [0, 1]")
    elif samples.dtype != kind:
        steps.append(f"converted to {kind}")
    factor, shift = _affine(name, layout.shape, kind, scale, pixels)
    if pixels.mean or pixels.std:
        steps.append(f"normalised with mean {_numbers(pixels.mean, 0)} and std {_numbers(pixels.std, 1)}")
    check = checked(samples, partial(check_finite, name, kind) if samples.dtype.kind == "f" else None)
    return Column(samples, layout, kind, pixels.pad, factor, shift, check), ", ".join(steps)


def input_layout(name: str, stored: Shape, wanted: Pattern, pad: int = 0) -> Arrangement:
    """Return how samples of a shape become what a model reads. Raises DataError when there is no way."""
    layout = find_layout(_padded(stored, pad, name), wanted)
    if layout is None:
        raise DataError(_mismatch(name, stored, wanted, pad))
    return layout


def checked(samples: Stored, check: Check | None) -> Check | None:
    """Look at all samples that are there as an array; return the check for those that are yet to be decoded.

    Some samples are looked at together, so that large arrays are not copied.
    """
    if check is None or not isinstance(samples, np.ndarray):
        return check
    lot = max(1, _LOT_BYTES // max(1, math.prod(samples.shape[1:]) * samples.dtype.itemsize))
    pages = pages_of(samples)
    for start in range(0, len(samples), lot):
        part = samples[start : start + lot]
        check(part, np.arange(start, start + len(part)))
        if pages is not None:
            pages.count(1, part.nbytes)
    return None


def check_finite(name: str, dtype: npt.DTypeLike, values: Array, rows: Rows) -> None:
    """Raise DataError naming the first sample of floats [n, ...] that is not finite as `dtype`: `name[rows[i]]`."""
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(values.astype(dtype, copy=False)).reshape(len(values), -1)
    bad = np.flatnonzero(~finite.all(axis=1))
    if bad.size:
        value = values[bad[0]].reshape(-1)[np.flatnonzero(~finite[bad[0]])[0]]
        raise DataError(
            f"{name}[{rows[bad[0]]}] holds {value}: every number must be finite as {np.dtype(dtype)}"
        )


def _with_border(samples: Array, pad: int) -> Array:
    axes = spatial_axes(samples.shape[1:]) or ()
    return np.pad(samples, [(pad, pad) if axis - 1 in axes else (0, 0) for axis in range(samples.ndim)])


def _padded(stored: Shape, pad: int, name: str) -> Shape:
    if not pad:
        return stored
    axes = spatial_axes(stored)
    if axes is None:
        raise DataError(f"{name}: samples of shape {_text(stored)} have no clear height and width to pad")
    return tuple(size + 2 * pad if axis in axes else size for axis, size in enumerate(stored))


def _mismatch(name: str, stored: Shape, wanted: Pattern, pad: int) -> str:
    text = f"{name}: samples have shape {_text(stored)}, the model reads {_text(wanted)}"
    axes = spatial_axes(stored)
    if pad or axes is None:
        return f"{text}: convert one of them"
    for more in range(1, max(stored[axis] for axis in axes) + 1):
        if find_layout(_padded(stored, more, name), wanted) is not None:
            return f"{text}: ask for zero-padding with pad {more}, or convert one of them"
    return f"{text}: resize one of them"


def _scale(name: str, stored: np.dtype[Any], wanted: np.dtype[Any]) -> float | None:
    """Return 1/255 for uint8 images and floating-point inputs, else None.

    DataError for a lossy conversion.
    """
    if wanted.kind == "f":
        return 1 / 255 if stored == np.uint8 else None
    if stored != wanted and not np.can_cast(stored, wanted, "safe"):
        raise DataError(f"{name} is {stored}, the model reads {wanted}: convert it before it is stored")
    return None


def _affine(
    name: str, shape: Shape, kind: np.dtype[Any], scale: float | None, pixels: Pixels
) -> tuple[Array | None, Array | None]:
    """Return factor and shift of (x * scale - mean) / std, shaped to broadcast against a sample."""
    if kind.kind != "f" and (pixels.mean or pixels.std):
        raise DataError(f"{name}: mean and std are for floating-point inputs, the model reads {kind}")
    mean = _per_channel(name, "mean", pixels.mean or (0.0,), shape)
    std = _per_channel(name, "std", pixels.std or (1.0,), shape)
    factor, shift = (scale or 1.0) / std, -mean / std
    return (
        factor.astype(kind) if np.any(factor != 1.0) else None,
        shift.astype(kind) if np.any(shift != 0.0) else None,
    )


def _per_channel(name: str, what: str, values: Sequence[float], shape: Shape) -> npt.NDArray[np.float64]:
    array = np.array(values, np.float64)
    if not np.isfinite(array).all():
        raise DataError(f"{name}: {what} {list(values)} is not finite")
    if len(array) == 1:
        return array.reshape(())
    if len(shape) == 3 and shape[0] == len(array):
        return array.reshape(-1, 1, 1)
    if len(shape) == 3 and shape[2] == len(array):
        return array
    raise DataError(
        f"{name}: {what} has {len(array)} values, samples of shape {_text(shape)} have other channels"
    )


def _text(shape: Pattern) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _numbers(values: tuple[float, ...], default: int) -> str:
    return "/".join(f"{value:g}" for value in values) or str(default)

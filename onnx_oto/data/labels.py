"""Targets as a loss reads them: shape and type compared, every value looked at."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.arrangement import Arrangement, Pattern, Shape, find_layout, spatial_axes
from onnx_oto.data.fit import Column, Pixels, Rows, Stored, check_finite, checked, fit
from onnx_oto.data.source import Wanted
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Labels:
    """A target in its own words (see `source.Target`): class labels, or floats where `classes` is None."""

    shape: Pattern = (None,)
    classes: int | None = None
    ignored: int | None = None
    low: float = -np.inf
    high: float = np.inf

    @property
    def dtype(self) -> np.dtype[Any]:
        """int64 for labels, float32 for numbers."""
        return np.dtype(np.float32 if self.classes is None else np.int64)


def fit_target(name: str, samples: Stored, target: Wanted) -> Column:
    """Return stored targets [N, ...] as the loss reads them. Raises DataError naming the sample, `name[17]`."""
    kind = np.dtype(target.dtype)
    layout = _layout(name, samples.shape[1:], tuple(target.shape[1:]))
    if target.classes is not None:
        if samples.dtype.kind not in "iu":
            raise DataError(f"{name} is {samples.dtype}: class labels are integers 0 to {target.classes - 1}")
        check = partial(_check_classes, name, target)
    else:
        if kind.kind != "f" and not np.can_cast(samples.dtype, kind, "safe"):
            raise DataError(
                f"{name} is {samples.dtype}, the loss reads {kind}: convert it before it is stored"
            )
        check = partial(_check_numbers, name, target)
    column = Column(samples, layout, kind, check=checked(samples, check))
    if target.classes is not None and isinstance(samples, np.ndarray):
        _require_one(name, samples, target.ignored)
    return column


def is_image(samples: Stored, target: Wanted) -> bool:
    """Say whether targets are images of the kind that inputs are: uint8 with height and width, for unbounded floats.

    A loss whose targets have bounds (0 to 1) reads masks: those stay the numbers that they are.
    """
    shape = tuple(samples.shape[1:])
    return (
        samples.dtype == np.uint8
        and np.dtype(target.dtype).kind == "f"
        and target.classes is None
        and (target.low, target.high) == (-np.inf, np.inf)
        and spatial_axes(shape) is not None
        and find_layout(shape, tuple(target.shape[1:])) is not None
    )


def fit_image(name: str, samples: Stored, target: Wanted, pixels: Pixels | None) -> tuple[Column, str]:
    """Return target images as inputs are served, and the sentence that says so.

    Scaled to [0, 1], and by mean and std where there is one of them, or one for each of the target's channels.
    """
    shape = tuple(target.shape[1:])
    layout = find_layout(tuple(samples.shape[1:]), shape)
    assert layout is not None
    channels = (layout.shape[0], layout.shape[-1]) if len(layout.shape) == 3 else (1,)
    counts = {len(values) for values in (pixels.mean, pixels.std) if len(values) > 1} if pixels else set()
    if any(count not in channels for count in counts):
        pixels = None
    column, note = fit(samples, shape, target.dtype, name=name, pixels=pixels)
    return column, note


def _layout(name: str, found: Shape, wanted: Pattern) -> Arrangement:
    """Return the way to the wanted shape; axes of size 1 at the end may come and go."""
    sizes = tuple(size for size in wanted if size is not None)
    if len(sizes) == len(wanted) and _core(found) == _core(sizes):
        return Arrangement(tuple(range(len(found))), sizes, "as stored")
    layout = find_layout(found, wanted)
    if layout is None:
        hint = ": one-hot labels? store their argmax" if not wanted and len(found) == 1 else ""
        raise DataError(f"{name}: one target has shape {list(found)}, the loss reads {list(wanted)}{hint}")
    return layout


def _core(shape: Shape) -> Shape:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _check_classes(name: str, target: Wanted, values: Array, rows: Rows) -> None:
    assert target.classes is not None
    wrong = (values < 0) | (values >= target.classes)
    if target.ignored is not None:
        wrong &= values != target.ignored
    if wrong.any():
        at, value = _first(values, wrong, rows)
        hint = ""
        if target.ignored is not None:
            hint = f"; if {value} means 'no label', ignore it (--ignore-label {value})"
        raise DataError(
            f"{name}[{at}] is {value}: labels are 0 to {target.classes - 1}, "
            f"the model has {target.classes} classes{hint}"
        )


def _require_one(name: str, labels: Array, ignored: int | None) -> None:
    """Raise DataError unless a label counts."""
    if ignored is not None and not any((label != ignored).any() for label in labels):
        raise DataError(
            f"{name}: every label is {ignored}, which is ignored: there is nothing to learn or evaluate"
        )


def _check_numbers(name: str, target: Wanted, values: Array, rows: Rows) -> None:
    check_finite(name, target.dtype, values, rows)
    if target.low == -np.inf and target.high == np.inf:
        return
    numbers = values.astype(target.dtype, copy=False)
    wrong = (numbers < target.low) | (numbers > target.high)
    if wrong.any():
        at, value = _first(values, wrong, rows)
        bounds = f"targets lie in {target.low:g} to {target.high:g}"
        if target.high == np.inf:
            bounds = f"it has to be at least {target.low:g}"
        raise DataError(f"{name}[{at}] is {value:g}: {bounds}")


def _first(values: Array, wrong: Array, rows: Rows) -> tuple[int, Any]:
    """Return the number of the first sample with a wrong value, and that value."""
    at = tuple(int(i) for i in np.argwhere(wrong)[0])
    return int(rows[at[0]]), values[at]

"""A data set that fits a model: every input served as the model reads it, every label checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.data.augment import Augment
from onnx_oto.data.fit import Pixels, Source, check_finite, fit
from onnx_oto.data.layout import Pattern, Shape
from onnx_oto.data.npz import Raw, Table
from onnx_oto.errors import DataError

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Input:
    """What a model input reads: the shape of one sample (None = any size) and its dtype."""

    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Labels:
    """What the loss reads.

    shape: of the target of one sample, None for open sizes. classes: labels are integers in [0, classes);
    None: floats. low, high: bounds of float targets, where the loss has them (0 and 1 for bce-with-logits). ignored: an
    integer that stands for no label, besides the classes or one of them.
    """

    shape: tuple[int | None, ...] = ()
    classes: int | None = None
    low: float = -np.inf
    high: float = np.inf
    ignored: int | None = None


@dataclass(frozen=True, eq=False)
class Examples:
    """One split: sources by input name, and the target: int64 or float32 [N, ...], or None."""

    inputs: dict[str, Source]
    target: Array | None

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))

    def take(
        self, rows: Array | slice, *, augment: Augment | None = None, seed: Sequence[int] = ()
    ) -> tuple[dict[str, Array], Array | None]:
        """Return the samples at `rows` as a batch by input name, and their target.

        Augmentation changes inputs only, all of them in the same way (they may be views of one scene).
        """
        batch = {name: source.take(rows, augment=augment, seed=seed) for name, source in self.inputs.items()}
        return batch, None if self.target is None else self.target[rows]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Both splits, and sentences that say what is done to the data."""

    train: Examples
    test: Examples
    notes: tuple[str, ...]


def assemble(
    raw: Raw, inputs: Mapping[str, Input], labels: Labels | None, *, pixels: Pixels | None = None
) -> Dataset:
    """Return the data set for a model with these data inputs and a loss that reads `labels`.

    `pixels` applies to inputs with two or three axes. Raises DataError naming key and sample.
    """
    notes: list[str] = []
    splits = []
    for table in (raw.train, raw.test):
        names = _assign(table, inputs)
        sources = {}
        for name, key in names.items():
            stored, wanted = table.inputs[key], inputs[name]
            prepared = pixels if stored.ndim > 2 else None
            sources[name], note = fit(
                stored, wanted.shape, wanted.dtype, name=table.key(key), pixels=prepared
            )
            notes.append(note)
        splits.append(Examples(sources, _target(table, labels)))
    return Dataset(splits[0], splits[1], tuple(notes))


def _assign(table: Table, inputs: Mapping[str, Input]) -> dict[str, str]:
    """Return the stored name ("" = unnamed) per model input."""
    if list(table.inputs) == [""]:
        if len(inputs) != 1:
            named = ", ".join(table.key(name) for name in inputs)
            raise DataError(f"the model has {len(inputs)} inputs: name the arrays {named}")
        return {next(iter(inputs)): ""}
    for name in inputs:
        if name not in table.inputs:
            raise DataError(f"{table.key(name)!r} is missing: the model reads {', '.join(inputs)}")
    for name in table.inputs:
        if name not in inputs:
            raise DataError(f"{table.key(name)!r}: the model has no such input, it reads {', '.join(inputs)}")
    return {name: name for name in inputs}


def _target(table: Table, labels: Labels | None) -> Array | None:
    if labels is None:
        return None
    name = f"y_{table.split}"
    if table.target is None:
        raise DataError(f"{name!r} is missing: the loss needs a target")
    target = _shaped(name, table.target, labels.shape)
    if labels.classes is not None:
        return _classes(name, target, labels.classes, labels.ignored)
    if target.dtype.kind == "b":
        target = target.astype(np.float32)
    check_finite(name, target, np.float32)
    values = target.astype(np.float32)
    wrong = (values < labels.low) | (values > labels.high)
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise DataError(
            f"{name}[{at[0]}] is {values[at]:g}: targets lie in {labels.low:g} to {labels.high:g}"
        )
    return values


def _shaped(name: str, target: Array, wanted: Pattern) -> Array:
    """Return the target with samples of the wanted shape; axes of size 1 at the end may come and go."""
    found = target.shape[1:]
    sizes = tuple(size for size in wanted if size is not None)
    if len(sizes) == len(wanted) and _core(found) == _core(sizes):
        return target.reshape(len(target), *sizes)
    if len(found) == len(wanted) and all(w in (None, f) for f, w in zip(found, wanted, strict=True)):
        return target
    hint = ": one-hot labels? store their argmax" if not wanted and len(found) == 1 else ""
    raise DataError(f"{name}: one target has shape {list(found)}, the loss reads {list(wanted)}{hint}")


def _core(shape: Shape) -> Shape:
    while shape and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _classes(name: str, target: Array, classes: int, ignored: int | None = None) -> Array:
    if target.dtype.kind not in "iu":
        raise DataError(f"{name} is {target.dtype}: class labels are integers 0 to {classes - 1}")
    wrong = (target < 0) | (target >= classes)
    if ignored is not None:
        wrong &= target != ignored
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[0])
        hint = (
            ""
            if ignored is None
            else f"; if {target[at]} means 'no label', ignore it (--ignore-label {target[at]})"
        )
        raise DataError(
            f"{name}[{at[0]}] is {target[at]}: labels are 0 to {classes - 1}, the model has {classes} classes{hint}"
        )
    return target.astype(np.int64)

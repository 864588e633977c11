"""Batches checked in numpy before native code sees them, because ONNX Runtime crashes on some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_oto.errors import DataError
from onnx_oto.gradients.graph.batching import Feed
from onnx_oto.losses import DATA, Target

Array = NDArray[Any]


def check_batch(batch: Mapping[str, Array], feeds: Sequence[Feed], size: int | None) -> dict[str, Array]:
    """Return the arrays of a batch, C-contiguous; raises DataError naming the sample.

    `size` is the number of samples demanded, None for any number above 0 that all batched inputs share.
    """
    expected = [feed.name for feed in feeds]
    missing = [name for name in expected if name not in batch]
    unknown = sorted(set(batch) - set(expected))
    if missing or unknown:
        wrong = f"input {missing[0]!r} is missing" if missing else f"the model has no input {unknown[0]!r}"
        raise DataError(f"{wrong}: the batch must hold exactly {', '.join(expected)}")
    checked = {feed.name: _check_array(batch[feed.name], feed, size) for feed in feeds}
    lengths = {feed.name: len(checked[feed.name]) for feed in feeds if feed.batched}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{name} has {n}" for name, n in lengths.items())
        raise DataError(f"inputs disagree on the number of samples: {counts}")
    return checked


def _check_array(array: Array, feed: Feed, size: int | None) -> Array:
    if not isinstance(array, np.ndarray):
        raise DataError(f"{feed.name} is a {type(array).__name__}: give a numpy array")
    if array.dtype != feed.dtype:
        raise DataError(
            f"{feed.name} is {array.dtype}, the model reads {feed.dtype}: convert it with .astype"
        )
    shape = array.shape[1:] if feed.batched else array.shape
    if shape != feed.shape or (feed.batched and array.ndim == 0):
        demanded = (["N"] if feed.batched else []) + list(feed.shape)
        raise DataError(
            f"{feed.name} has shape {list(array.shape)}, the model reads [{', '.join(map(str, demanded))}]"
        )
    _check_length(feed.name, len(array) if feed.batched else None, size)
    _check_finite(feed.name, array)
    return np.ascontiguousarray(array)


def _check_length(name: str, length: int | None, size: int | None) -> None:
    if length == 0:
        raise DataError(f"{name} is empty: a batch needs at least one sample")
    if length is not None and size is not None and length != size:
        raise DataError(
            f"{name} has {length} samples, a training step takes exactly {size}: drop or fill up the rest"
        )


def _check_finite(name: str, array: Array) -> None:
    """One cheap pass: a sum is finite unless a term is not or the sum overflows; only then look closer."""
    if array.dtype.kind not in "fc":
        return
    with np.errstate(all="ignore"):
        if array.size == 0 or np.isfinite(array.sum()):
            return
    bad = ~np.isfinite(array)
    if bad.any():
        place = tuple(int(i) for i in np.argwhere(bad)[0])
        index = place[0] if place else ""
        raise DataError(
            f"{name}[{index}] holds {array[place]} at {list(place)}: inputs must be finite numbers"
        )


def check_targets(
    given: Array | Mapping[str, Array] | None, expected: Mapping[str, Target]
) -> dict[str, Array]:
    """Return the targets by name as the loss reads them; an array alone is the target "y". See `check_target`."""
    named = given if isinstance(given, Mapping) else {} if given is None else {DATA: given}
    return {name: check_target(name, named.get(name), target) for name, target in expected.items()}


def check_target(name: str, target: Array | None, expected: Target) -> Array:
    """Return a target as int64 labels or float32 values; raises DataError naming the sample."""
    if not isinstance(target, np.ndarray):
        raise DataError(
            f"the target {name!r} is {type(target).__name__}: give a numpy array of shape {list(expected.shape)}"
        )
    if target.shape != expected.shape:
        raise DataError(f"{name} has shape {list(target.shape)}, the loss reads {list(expected.shape)}")
    if expected.classes is not None:
        return _check_labels(name, target, expected.classes, expected.ignored)
    if target.dtype.kind != "f":
        raise DataError(f"{name} is {target.dtype}, the loss reads float32: convert it with .astype")
    _check_finite(name, target)
    if target.size and (target.min() < expected.low or target.max() > expected.high):
        place = tuple(int(i) for i in np.argwhere((target < expected.low) | (target > expected.high))[0])
        raise DataError(
            f"{name}[{place[0]}] is {target[place]:g}: targets lie in {expected.low:g} to {expected.high:g}"
        )
    return np.ascontiguousarray(target, np.float32)


def _check_labels(name: str, labels: Array, classes: int, ignored: int | None) -> Array:
    if labels.dtype.kind not in "iu":
        raise DataError(f"{name} is {labels.dtype}, the loss reads integer labels: convert them with .astype")
    if labels.min() < 0 or labels.max() >= classes:
        wrong = (labels < 0) | (labels >= classes)
        if ignored is not None:
            wrong &= labels != ignored
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                f"{name}[{place[0]}] is {labels[place]}: labels must lie in 0 to {classes - 1}, the model has "
                f"{classes} classes" + ("" if ignored is None else f" (and {ignored} is ignored)")
            )
    return np.ascontiguousarray(labels, np.int64)

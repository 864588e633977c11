"""Slicing parameters by the lanes that stay."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.graph.on_demand import OnDemand
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.zigs.analysis import Analysis

_LONG, _ROWS = 64, 0.25
"""Elements from which on positions are copied as rows, and what that takes for one of them, against picking it."""
_PART = 1 << 18
"""Bytes that are cut at a time."""


class Sliced(OnDemand):
    """The parameters that lose something, in their own data type, by name. Each is cut when it is looked at.

    drop: bool [lanes].
    """

    def __init__(self, analysis: Analysis, drop: BoolArray) -> None:
        self._analysis = analysis
        of_label = analysis.lanes.of_label
        self._kept: dict[str, tuple[dict[int, BoolArray], BoolArray | None]] = {}
        for param, axes in analysis.trace.parameters.items():
            grouped = analysis.trace.grouped.get(param)
            keep = {
                a: ~drop[of_label[labels]]
                for a, labels in axes.items()
                if not (a == 1 and grouped is not None)
            }
            inner = None if grouped is None else ~drop[of_label[grouped]]
            if not (all(k.all() for k in keep.values()) and (inner is None or inner.all())):
                self._kept[param] = keep, inner
        super().__init__(self._kept.keys())

    def __getitem__(self, param: str) -> npt.NDArray[Any]:
        keep, inner = self._kept[param]
        tensor = self._analysis.graph.initializers[param]
        shape = tuple(tensor.dims)
        turns = _in_turn({axis: np.flatnonzero(mask) for axis, mask in keep.items()}, shape)
        turns = [(axis, kept) for axis, kept in turns if kept.size < shape[axis]]
        stored = self._analysis.graph.payloads.of(tensor) if turns else None
        value = _taken(to_array(tensor) if stored is None else stored, turns)
        if inner is not None and not inner.all():
            value = _slice_groups(value, inner)
        return value

    def shape(self, param: str) -> tuple[int, ...]:
        """Return the shape that a parameter has then."""
        keep, inner = self._kept[param]
        dims = list(self._analysis.graph.initializers[param].dims)
        for axis, mask in keep.items():
            dims[axis] = int(mask.sum())
        if inner is not None:
            dims[1] = int(inner.sum(axis=1).max())
        return tuple(dims)


def _taken(value: npt.NDArray[Any], turns: Sequence[tuple[int, IntArray]]) -> npt.NDArray[Any]:
    """Return positions of several axes of an array at any address, one axis after the other.

    Where the first axis is one of them, some rows at a time: what lies between two axes then stays in the cache. These
    are joined to one bytes object, as what writes a tensor needs it.
    """
    if len(turns) < 2 or all(axis for axis, _ in turns) or value.nbytes <= _PART:
        for axis, kept in turns:
            value = _take_bytes(value, axis, kept)
        return value
    rows = next(kept for axis, kept in turns if axis == 0)
    turns = [(axis, kept) for axis, kept in turns if axis]
    left = dict(turns)
    shape = [left[axis].size if axis in left else size for axis, size in enumerate(value.shape)]
    step = max(1, _PART * len(value) // value.nbytes)
    parts = []
    for begin in range(0, rows.size, step):
        part = _take_bytes(value, 0, rows[begin : begin + step])
        for axis, kept in turns:
            part = part.take(kept, axis=axis)
        parts.append(part.view(np.uint8).data)
    return np.frombuffer(b"".join(parts), np.uint8).view(value.dtype).reshape(rows.size, *shape[1:])


def _take_bytes(value: npt.NDArray[Any], axis: int, kept: IntArray) -> npt.NDArray[Any]:
    """Return positions of an axis of an array at any address: numpy would copy all of it first."""
    shape, size = value.shape, value.itemsize
    rows = value.view(np.uint8).reshape(*shape[: axis + 1], math.prod(shape[axis + 1 :]) * size)
    taken = rows.take(kept, axis=axis)
    return taken.view(value.dtype).reshape(*shape[:axis], kept.size, *shape[axis + 1 :])


def _in_turn(kept: Mapping[int, IntArray], shape: Sequence[int]) -> list[tuple[int, IntArray]]:
    """Return axes in the order in which to cut them: whole rows first, unless far fewer positions of others stay.

    To copy a row takes a fraction of the time that picking its elements one by one takes.
    """

    def work(axis: int) -> float:
        share = kept[axis].size / (shape[axis] or 1)
        return share * (_ROWS if math.prod(shape[axis + 1 :]) >= _LONG else 1.0)

    return sorted(kept.items(), key=lambda item: work(item[0]))


def _slice_groups(weight: npt.NDArray[Any], keep: BoolArray) -> npt.NDArray[Any]:
    """Return a grouped convolution's weight [O, m, ...] with other positions of axis 1 kept in every group.

    keep: bool [groups, m], the same number in every row, or none: that group has no rows left in the weight.
    """
    keep = keep[keep.any(axis=1)]
    groups, width = keep.shape
    kept = np.nonzero(keep)[1].reshape(groups, -1)
    seen = weight.reshape(groups, -1, width, *weight.shape[2:])
    index = kept.reshape(groups, 1, -1, *(1,) * (weight.ndim - 2))
    return np.take_along_axis(seen, index, axis=2).reshape(-1, kept.shape[1], *weight.shape[2:])

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
        value = to_array(tensor) if stored is None else _take_bytes(stored, *turns.pop(0))
        for axis, kept in turns:
            value = value.take(kept, axis=axis)
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

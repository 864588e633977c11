"""Slicing parameters by the lanes that stay."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.graph.tensors import to_array
from onnx_oto.zigs.analysis import Analysis


def sliced(analysis: Analysis, drop: BoolArray) -> dict[str, npt.NDArray[Any]]:
    """Return the parameters that lose something, in their own data type, by name. drop: bool [lanes]."""
    result = {}
    of_label = analysis.lanes.of_label
    for param, axes in analysis.trace.parameters.items():
        grouped = analysis.trace.grouped.get(param)
        keep = {
            a: ~drop[of_label[labels]] for a, labels in axes.items() if not (a == 1 and grouped is not None)
        }
        inner = None if grouped is None else ~drop[of_label[grouped]]
        if all(k.all() for k in keep.values()) and (inner is None or inner.all()):
            continue
        value = to_array(analysis.graph.initializers[param])
        for axis, mask in sorted(keep.items(), key=lambda item: item[1].mean()):
            if not mask.all():
                value = value.take(np.flatnonzero(mask), axis=axis)
        if inner is not None and not inner.all():
            value = _slice_groups(value, inner)
        result[param] = value
    return result


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

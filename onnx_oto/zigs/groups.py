"""The ZIGs: which slices of which parameters belong to a lane, and zeroing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.lanes.trace import Role
from onnx_oto.model.graph.tensors import from_array, is_external, to_array
from onnx_oto.zigs.analysis import Analysis, uses


@dataclass(frozen=True, eq=False)
class Group:
    """The producer slices of one parameter: index i of `axis` belongs to lane lanes[i], int64 [n].

    rows: the part of axis 0 they lie in (all of it, but where axis 1 has other lanes in every group).
    """

    param: str
    axis: int
    lanes: IntArray
    rows: slice = field(default_factory=lambda: slice(None))


def group_slices(analysis: Analysis) -> list[Group]:
    """Return every producing parameter axis with its lanes, frozen ones included."""
    result = []
    for use, labels in uses(analysis.trace):
        lanes = analysis.lanes.of_label[labels]
        if use.role == Role.PRODUCER.value and lanes.ndim == 1:
            result.append(Group(use.param, use.axis, lanes))
        elif use.role == Role.PRODUCER.value:
            size = analysis.graph.initializers[use.param].dims[0] // len(lanes)
            rows = (slice(i * size, (i + 1) * size) for i in range(len(lanes)))
            result.extend(Group(use.param, use.axis, *pair) for pair in zip(lanes, rows, strict=True))
    return result


def loaded_slices(analysis: Analysis) -> Iterator[tuple[Group, npt.NDArray[Any]]]:
    """Yield what `group_slices` returns with the parameter's value (in its rows), where that is loaded.

    Each value is read anew: kept for all of them, as `Graph.constant` does, a large model would be held twice.
    """
    for piece in group_slices(analysis):
        tensor = analysis.graph.initializers[piece.param]
        if not is_external(tensor):
            yield piece, to_array(tensor)[piece.rows]


def zero_dropped(analysis: Analysis, drop: BoolArray) -> onnx.ModelProto:
    """Return a copy of the full model in which the ZIGs of the dropped lanes are exactly zero. drop: bool [lanes]."""
    masks: dict[str, list[tuple[Group, BoolArray]]] = {}
    for piece in group_slices(analysis):
        gone = drop[piece.lanes]
        if gone.any():
            masks.setdefault(piece.param, []).append((piece, gone))
    result = onnx.ModelProto()
    result.CopyFrom(analysis.model)
    for tensor in result.graph.initializer:
        if tensor.name in masks:
            value = to_array(tensor).copy()
            for piece, gone in masks[tensor.name]:
                value[piece.rows][(slice(None),) * piece.axis + (gone,)] = 0
            tensor.CopyFrom(from_array(value, tensor.name))
    return result


def zero_lanes(analysis: Analysis) -> BoolArray:
    """Return which prunable lanes have a ZIG that is exactly zero already: bool [lanes].

    All of them, whether they can go together or not: that is for `choose_zeros` to say.
    """
    nonzero = ~analysis.can_go
    for piece, weight in loaded_slices(analysis):
        axes = tuple(i for i in range(weight.ndim) if i != piece.axis)
        nonzero[piece.lanes[(weight != 0).any(axes)]] = True
    return ~nonzero

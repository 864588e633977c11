"""The ZIGs: which slices of which parameters belong to a lane, and zeroing them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.lanes.trace import Role
from onnx_oto.model.graph.on_demand import OnDemand
from onnx_oto.model.graph.tensors import from_array, is_external, is_located, to_array
from onnx_oto.zigs.analysis import Analysis


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
    for use, labels in analysis.uses:
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

    Of weights that are stored as integers that is what those mean. One value is held at a time: kept for all of them,
    as `Graph.constant` does, a large model would be held twice. It may lie at any address.
    """
    name = ""
    value: npt.NDArray[Any] = np.zeros(0)
    for piece in group_slices(analysis):
        tensor = analysis.graph.initializers[piece.param]
        if is_external(tensor) and not is_located(tensor):
            continue
        if piece.param != name:
            name, kept = piece.param, analysis.graph.payloads.of(tensor)
            value = to_array(tensor) if kept is None else kept
            if (code := analysis.trace.codes.get(name)) is not None:
                value = code.floats(value)
        yield piece, value[piece.rows]


def zero_dropped(analysis: Analysis, drop: BoolArray) -> onnx.ModelProto:
    """Return a copy of the full model in which the ZIGs of the dropped lanes are exactly zero. drop: bool [lanes].

    Weights that lie in another file stay as they are: `Zeroed` has their values.
    """
    values = Zeroed(analysis, drop)
    result = onnx.ModelProto()
    result.CopyFrom(analysis.model)
    for tensor in result.graph.initializer:
        if tensor.name in values and not is_external(tensor):
            tensor.CopyFrom(from_array(values.within(tensor.name, to_array(tensor)), tensor.name))
    return result


class Zeroed(OnDemand):
    """The parameters in which the ZIGs of dropped lanes become zero, by name. Each is made when it is looked at.

    drop: bool [lanes].
    """

    def __init__(self, analysis: Analysis, drop: BoolArray) -> None:
        self._analysis = analysis
        self._gone: dict[str, list[tuple[Group, BoolArray]]] = {}
        for piece in group_slices(analysis):
            gone = drop[piece.lanes]
            if gone.any():
                self._gone.setdefault(piece.param, []).append((piece, gone))
        super().__init__(self._gone.keys())

    def __getitem__(self, param: str) -> npt.NDArray[Any]:
        return self.within(param, to_array(self._analysis.graph.initializers[param]))

    def within(self, param: str, value: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return a copy of a value of a parameter (which may be another one than it has now) with zeros in it."""
        value = value.copy()
        code = self._analysis.trace.codes.get(param)
        for piece, gone in self._gone[param]:
            place = (slice(None),) * piece.axis + (gone,)
            value[piece.rows][place] = 0 if code is None else code.zeros(value)[piece.rows][place]
        return value


def zero_lanes(analysis: Analysis) -> BoolArray:
    """Return which prunable lanes have a ZIG that is exactly zero already: bool [lanes].

    All of them, whether they can go together or not: that is for `choose_zeros` to say.
    """
    nonzero = ~analysis.can_go
    for piece, weight in loaded_slices(analysis):
        axes = tuple(i for i in range(weight.ndim) if i != piece.axis)
        nonzero[piece.lanes[(weight != 0).any(axes)]] = True
    return ~nonzero

"""Where the parameters of a compact model come from: which positions of the full ones, in which order."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnx_oto.lanes.layout import IntArray, explicit
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.surgery.compact import Compacted
from onnx_oto.zigs.analysis import Analysis


def kept_positions(analysis: Analysis, drop: BoolArray, result: Compacted) -> dict[str, dict[int, IntArray]]:
    """Return, by parameter and axis, the positions of the full parameter that the compact one has, in its order.

    int64 [n]; [groups, n] for axis 1 of the weight of a grouped convolution, where every group keeps its own. A
    parameter that lost nothing and is in its old order is left out, and so are those axes.
    """
    named = _successors(analysis, result)
    found: dict[str, dict[int, IntArray]] = {}
    for param, axes in analysis.trace.parameters.items():
        orders = result.orders.get(named.get(param, param), {})
        for axis, labels in axes.items():
            grouped = analysis.trace.grouped.get(param) if axis == 1 else None
            keep = ~drop[analysis.lanes.of_label[labels if grouped is None else grouped]]
            if keep.all() and axis not in orders:
                continue
            positions: IntArray = np.nonzero(keep)[-1]
            if grouped is not None:
                positions = positions.reshape(int(keep.any(axis=1).sum()), -1)
            elif axis in orders:
                order = orders[axis]
                positions = positions[order[order < positions.size]]  # behind them lies what was padded
            found.setdefault(param, {})[axis] = positions
    return found


Inside = Callable[[str], "dict[int, IntArray] | None"]
"""By tensor of the full model the positions that the compact one has, by axis; None where that cannot be told."""


def kept_inside(analysis: Analysis, drop: BoolArray, result: Compacted) -> Inside:
    """Return which positions of the full model's computed tensors the compact ones of the same name have."""

    def positions(name: str) -> dict[int, IntArray] | None:
        layout = analysis.trace.layouts.get(name)
        if layout is None or result.orders:
            return None
        found: dict[int, IntArray] = {}
        for axis in range(layout.rank):
            if not layout.on_axis(axis):
                continue
            listed = explicit(layout, axis)
            if listed is None:
                return None
            keep = ~drop[analysis.lanes.of_label[listed[0]]]
            if not keep.all():
                found[axis] = np.flatnonzero(keep)
        return found

    return positions


def _successors(analysis: Analysis, result: Compacted) -> dict[str, str]:
    """Return the constants that surgery put in place of parameters (a bias with something added), by parameter."""
    graph = result.model.graph
    there = {tensor.name: len(tensor.dims) for tensor in graph.initializer}
    inputs = {node.name: list(node.input) for node in graph.node}
    found = {}
    for param in analysis.trace.parameters:
        rank = len(analysis.graph.initializers[param].dims)
        for node, position in analysis.graph.consumers.get(param, ()):
            now = inputs.get(node.name, [])
            if param not in there and position < len(now) and there.get(now[position]) == rank:
                found[param] = now[position]
    return found

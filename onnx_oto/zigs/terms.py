"""What a model costs as a function of the lanes that stay: sums of products of widths.

The width of an axis is how many of its positions stay. A weight [O, C, 3, 3] has 9 * width(O) * width(C) elements, a
convolution by it as many multiply-accumulates times the positions it slides over: what one lane costs depends on what
else has gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.model.shapes.dims import value_at
from onnx_oto.model.shapes.symbols import Estimated
from onnx_oto.zigs.analysis import Analysis

Factor = IntArray
"""The lanes of the positions of an axis, int64 [positions]; a lane may stand there several times."""


@dataclass(frozen=True, eq=False)
class Terms:
    """cost = sum over t of weight[t] * product over r of width(axes[index[t, r]]), a missing factor being 1.

    axes: the lanes of every axis; the first one is empty and stands for a missing factor. index: int64 [T, R].
    weight: float64 [T]. block: float64 [axes], what widths are counted in: 30 channels cost what 32 do in blocks of 16.
    """

    axes: tuple[Factor, ...]
    index: IntArray
    weight: FloatArray
    block: FloatArray

    def at(self, keep: BoolArray) -> float:
        """Return the cost where these lanes stay: bool [lanes]."""
        widths = np.array([1.0, *(np.count_nonzero(keep[axis]) for axis in self.axes[1:])])
        return float(self.weight @ in_blocks(widths, self.block)[self.index].prod(1))


def in_blocks(widths: FloatArray, block: FloatArray) -> FloatArray:
    """Return widths rounded up to whole blocks."""
    return np.ceil(widths / block) * block


def terms(products: Iterable[tuple[float, Sequence[Factor]]]) -> Terms:
    """Return the sum of products (weight, axes); equal axes are told once, equal products added."""
    empty = np.zeros(0, np.int64)
    axes: dict[bytes, tuple[int, Factor]] = {b"": (0, empty)}
    weights: dict[tuple[int, ...], float] = {}
    for weight, factors in products:
        numbers = []
        for lanes in factors:
            ordered = np.sort(lanes.reshape(-1))
            number, _ = axes.setdefault(ordered.tobytes(), (len(axes), ordered))
            numbers.append(number)
        place = tuple(sorted(numbers, reverse=True))
        weights[place] = weights.get(place, 0.0) + weight
    longest = max((len(key) for key in weights), default=1) or 1
    index = np.zeros((len(weights), longest), np.int64)
    for row, key in zip(index, weights, strict=True):
        row[: len(key)] = key
    listed = tuple(lanes for _, lanes in axes.values())
    return Terms(listed, index, np.array(list(weights.values()), np.float64), np.ones(len(listed)))


def parameter_terms(analysis: Analysis, size_of: Mapping[str, float] | None = None) -> Terms:
    """Return how many elements of floating-point parameters there are, running statistics apart.

    size_of: instead, what one element of each initializer counts for (bytes); those that it lacks count for nothing.
    """
    if size_of is None:
        size_of = dict.fromkeys(analysis.counted_parameters, 1.0)
    products: list[tuple[float, list[Factor]]] = []
    for name, each in size_of.items():
        shape = analysis.graph.initializers[name].dims
        factors, free = [], each
        labels = {axis: analysis.trace.labels_of(name, axis) for axis in range(len(shape))}
        for axis, size in enumerate(shape):
            is_cut = (
                axis in analysis.trace.parameters.get(name, {}) and (name, axis) not in analysis.trace.padded
            )
            of_axis = labels[axis] if is_cut else None
            if of_axis is None:
                free *= size
                continue
            lanes = analysis.lanes.of_label[of_axis]
            times, counted = (1, [lanes]) if lanes.ndim == 1 else _of_a_group(lanes)
            free *= times
            factors += counted
        products.append((free, factors))
    return terms(products)


def mac_terms(analysis: Analysis, sizes: Mapping[str, int], nodes: Iterable[str] | None = None) -> Terms:
    """Return the multiply-accumulates, of all nodes or of these, where open sizes are the given ones, by symbol."""
    at = Estimated(sizes, analysis.graph.about)
    of_label = analysis.lanes.of_label
    macs = analysis.trace.macs
    products: list[tuple[float, list[Factor]]] = []
    for node in macs if nodes is None else nodes:
        for product in macs[node]:
            if product.size is None:
                continue
            weight = float(max(value_at(product.size, at), 0))
            factors = [of_label[labels.reshape(-1)] for labels in (*product.counted, *product.repeated)]
            for labels in product.per_group:
                times, counted = _of_a_group(of_label[labels])
                weight *= times
                factors += counted
            products.append((weight, factors))
    return terms(products)


def _of_a_group(lanes: IntArray) -> tuple[int, list[Factor]]:
    """Return the width of a group that stays, of lanes [groups, n]: n where all n stay with it, else the first's."""
    return (lanes.shape[1], []) if (lanes == lanes[:, :1]).all() else (1, [lanes[0]])

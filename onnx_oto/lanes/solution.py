"""From collected labels to lanes: components, rectangles, frozen lanes, balanced rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.components import components
from onnx_oto.lanes.constraints import Groups
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.trace import Role, Trace

BoolArray = npt.NDArray[np.bool_]
Extra = list[tuple[IntArray, IntArray, str]]
"""Further ties, each with the node that asks for it."""


@dataclass(frozen=True, eq=False)
class Lanes:
    """The solved lanes.

    of_label: int64 [labels], the lane of every label. count: number of lanes.
    reason: for every lane why it is frozen; -1 = it is not, else an index into `reasons`.
    cells: int64 [lanes], which combination of balanced rows a lane lies in (0: none); see `choose`.
    """

    of_label: IntArray
    count: int
    reason: IntArray
    reasons: tuple[str, ...]
    cells: IntArray
    balanced: tuple[tuple[IntArray, str], ...]

    @property
    def frozen(self) -> BoolArray:
        """Return which lanes must stay: bool [lanes]."""
        return self.reason >= 0


def solve(trace: Trace) -> Lanes:
    """Return the lanes of a finished trace."""
    of_label = components(trace.count, trace.ties)
    while found := (
        _rectangle_ties(trace, of_label)
        or _uneven_ties(trace, of_label)
        or _whole_group_ties(trace, of_label)
    ):
        trace.ties.extend((left, right) for left, right, _ in found)
        trace.tied_by.extend(node for _, _, node in found)
        tied = [(of_label[left], of_label[right]) for left, right, _ in found]
        of_label = components(int(of_label.max()) + 1, tied)[of_label]
    for groups in trace.groups:
        if not _go_whole(groups, of_label):
            trace.demand_zero(groups.channels, groups.node, "the sum")
    count = int(of_label.max(initial=-1)) + 1
    lanes = _Freezing(of_label, np.full(count, -1, np.int64), [])
    for entry in trace.frozen:
        lanes.freeze(of_label[entry.labels], entry.reason)
    _freeze_two_groups(trace, lanes)
    cells, balanced = _cells(trace, lanes)
    return Lanes(of_label, count, lanes.reason, tuple(lanes.reasons), cells, balanced)


@dataclass
class _Freezing:
    of_label: IntArray
    reason: IntArray
    reasons: list[str]

    def freeze(self, lanes: IntArray, reason: str) -> bool:
        """Freeze lanes that are not frozen yet; the first reason stays. Return whether there were any."""
        fresh = lanes[self.reason[lanes] < 0]
        if fresh.size:
            self.reason[fresh] = len(self.reasons)
            self.reasons.append(reason)
        return bool(fresh.size)


def distinct(lanes: IntArray) -> IntArray:
    """Return the sorted distinct values of an int64 array; fast where they ascend already, as most axes' do."""
    flat = lanes.reshape(-1)
    if (flat[1:] > flat[:-1]).all():
        return flat
    ordered = np.sort(flat)
    is_first = np.ones(flat.size, bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return ordered[is_first]


def _rectangle_ties(trace: Trace, of_label: IntArray) -> Extra:
    """Return ties that make product axes rectangular that are not, of those that share lanes the first.

    Their lanes then vary along one factor only: the one that leaves the most lanes.
    """
    found: Extra = []
    touched = np.zeros(int(of_label.max(initial=-1)) + 1, bool)
    seen: set[int] = set()
    for rectangle in trace.rectangles:
        if rectangle.even or id(rectangle.labels) in seen:
            continue
        seen.add(id(rectangle.labels))
        lanes = of_label[rectangle.labels]
        if touched[lanes].any():
            continue
        if extra := _along_one_factor(rectangle.labels, of_label, trace.head_dims):
            found.extend((*pair, rectangle.node) for pair in extra)
            touched[lanes] = True
    return found


def _along_one_factor(labels: IntArray, of_label: IntArray, inner: bool) -> list[tuple[IntArray, IntArray]]:
    """Return ties after which the lanes of labels [n, m, ..] vary along one factor only; inner: along the last."""
    lanes = of_label[labels]
    varying = [d for d in range(lanes.ndim) if (lanes != lanes.take([0], axis=d)).any()]
    if len(varying) <= 1:
        return []
    best = varying[-1] if inner else max(varying, key=lambda d: _lanes_left(lanes, d))
    moved = np.moveaxis(labels, best, 0).reshape(labels.shape[best], -1)
    return [(np.repeat(moved[:, 0], moved.shape[1]), moved.reshape(-1))]


def _uneven_ties(trace: Trace, of_label: IntArray) -> Extra:
    """Return ties for product axes with free rows in which lanes reach over rows: rows become the same."""
    found: Extra = []
    touched = np.zeros(int(of_label.max(initial=-1)) + 1, bool)
    for rectangle in trace.rectangles:
        if not rectangle.even:
            continue
        lanes = of_label[rectangle.labels]
        if touched[lanes].any() or _can_be_even(_rows(lanes)):
            continue
        if extra := _along_one_factor(rectangle.labels, of_label, inner=True):
            found.extend((*pair, rectangle.node) for pair in extra)
            touched[lanes] = True
    return found


def _whole_group_ties(trace: Trace, of_label: IntArray) -> Extra:
    """Return ties for grouped convolutions of which whole groups can go and nothing else: outputs go along."""
    found: Extra = []
    if not trace.groups:
        return found
    touched = np.zeros(int(of_label.max(initial=-1)) + 1, bool)
    frozen = np.zeros(int(of_label.max(initial=-1)) + 1, bool)
    for entry in trace.frozen:
        frozen[of_label[entry.labels]] = True
    for groups in trace.groups:
        first = groups.channels.labels[:, :1]
        rows, made = of_label[groups.channels.labels], of_label[groups.outputs]
        if touched[rows].any() or touched[made].any():
            continue
        free = np.unique(rows[~frozen[rows]])
        if free.size > 1 and (rows == rows[:, :1]).all() and not _go_whole(groups, of_label):
            outputs = groups.outputs.reshape(-1)
            found.append((np.repeat(first, groups.outputs.shape[1]), outputs, groups.node.name))
            touched[rows] = touched[made] = True
    return found


def _go_whole(groups: Groups, of_label: IntArray) -> bool:
    """Return whether the channels and outputs of every group are one lane."""
    rows = of_label[groups.channels.labels]
    return bool((rows == rows[:, :1]).all() and (of_label[groups.outputs] == rows[:, :1]).all())


def _rows(lanes: IntArray) -> IntArray:
    """Return the distinct rows, lanes [rows, last factor]: heads that share keys and values count once."""
    return np.unique(lanes.reshape(-1, lanes.shape[-1]), axis=0)


def _varies_twice(lanes: IntArray) -> bool:
    """Return whether lanes [.., last factor] vary both along the last factor and between rows."""
    rows = _rows(lanes)
    return len(rows) > 1 and bool((rows != rows[:, :1]).any())


def _can_be_even(rows: IntArray) -> bool:
    """Return whether rows [rows, positions] are the same lanes or have none in common, and none twice."""
    return _is_uniform(rows) or np.unique(rows).size == rows.size


def _lanes_left(lanes: IntArray, dim: int) -> int:
    """Return how many lanes are left when all positions with one index along `dim` become one lane."""
    names, flat = np.unique(lanes, return_inverse=True)
    rows = np.moveaxis(flat.reshape(lanes.shape), dim, 0).reshape(lanes.shape[dim], -1)
    ties = [(np.repeat(rows[:, 0], rows.shape[1]), rows.reshape(-1))]
    return int(components(names.size, ties).max()) + 1


def _freeze_two_groups(trace: Trace, lanes: _Freezing) -> None:
    """An element of a parameter may be in one ZIG only: a second producing axis is frozen, unless all is one lane."""
    by_param: dict[str, list[int]] = {}
    for (param, axis), role in trace.roles.items():
        if role is Role.PRODUCER and axis in trace.parameters.get(param, {}):
            by_param.setdefault(param, []).append(axis)
    for param, axes in by_param.items():
        if len(axes) == 1:
            continue
        alive: IntArray | None = None
        for axis in sorted(axes, key=lambda a: -trace.parameters[param][a].size):
            of_axis = lanes.of_label[trace.parameters[param][axis]]
            if (lanes.reason[of_axis] >= 0).all():
                continue
            if alive is None:
                alive = distinct(of_axis)
            elif alive.size > 1 or not np.array_equal(distinct(of_axis), alive):
                lanes.freeze(of_axis, f"'{param}' would belong to the groups of two of its axes")


def _cells(trace: Trace, lanes: _Freezing) -> tuple[IntArray, tuple[tuple[IntArray, str], ...]]:
    """Return the cell of every lane and the balanced constraints that are left, as (lanes [rows, n], node).

    A constraint whose rows cannot be kept equal lane by lane (a frozen lane, a lane that lies in several rows
    but not in all, cells of different number per row) freezes its lanes; that may break another, so it repeats.
    """
    constraints = _constraints(trace, lanes.of_label)
    while True:
        cells = np.zeros(lanes.reason.size, np.int64)
        alive = [(rows, node) for rows, node in constraints if not (lanes.reason[rows] >= 0).all()]
        for rows, _ in alive:
            cells = _refine(cells, rows)
        broken = [(rows, node) for rows, node in alive if not _is_balanceable(rows, cells, lanes.reason)]
        if not broken:
            return cells, tuple(alive)
        for rows, node in broken:
            reason = f"the groups of '{node}' cannot all keep the same number of channels"
            lanes.freeze(np.unique(rows), reason)


def _constraints(trace: Trace, of_label: IntArray) -> list[tuple[IntArray, str]]:
    """Return what is balanced as (lanes [rows, n], node), each set of rows once, without those that always are."""
    stated = [(c.labels, c.node) for c in trace.balanced]
    for groups in trace.groups:
        if not _go_whole(groups, of_label):
            stated += [(labels, groups.node.name) for labels in (groups.channels.labels, groups.outputs)]
    even = [(r.labels, r.node) for r in trace.rectangles if r.even and _varies_twice(of_label[r.labels])]
    found: dict[tuple[tuple[int, ...], bytes], tuple[IntArray, str]] = {}
    for labels, node in (*stated, *even):
        rows = _once(_rows(of_label[labels]))
        if not _is_uniform(rows):
            found.setdefault((rows.shape, rows.tobytes()), (rows, node))
    return list(found.values())


def _once(rows: IntArray) -> IntArray:
    """Return rows with each lane once where several stand equally often in every row; else as they are."""
    ordered = np.sort(rows, axis=1)
    counts = np.concatenate([np.unique(row, return_counts=True)[1] for row in ordered])
    times = int(counts[0])
    return ordered[:, ::times] if (counts == times).all() and 1 < times < rows.shape[1] else rows


def _is_uniform(rows: IntArray) -> bool:
    """Return whether every row holds the same lanes equally often: dropping any lane keeps the rows equal."""
    ordered = np.sort(rows, axis=1)
    return bool((ordered == ordered[:1]).all())


def _refine(cells: IntArray, rows: IntArray) -> IntArray:
    """Return cells that also tell the lanes of different rows apart."""
    row_of = np.zeros(cells.size, np.int64)
    row_of[rows] = np.arange(1, len(rows) + 1)[:, None]
    pairs = cells * (len(rows) + 1) + row_of
    names, refined = np.unique(pairs, return_inverse=True)
    shift = 0 if names[0] == 0 else 1
    result: IntArray = refined.reshape(-1).astype(np.int64) + shift
    return result


def _is_balanceable(rows: IntArray, cells: IntArray, reason: IntArray) -> bool:
    """Return whether taking one lane from every cell takes equally many from every row."""
    if (reason[rows] >= 0).any():
        return False
    flat = np.sort(rows, axis=1)
    if (flat[:, 1:] == flat[:, :-1]).any() or np.unique(rows).size != rows.size:
        return False
    counts = [np.unique(cells[row], return_counts=True)[1] for row in rows]
    return all(np.array_equal(np.sort(c), np.sort(counts[0])) for c in counts) and all(
        (c == counts[0][0]).all() for c in counts
    )

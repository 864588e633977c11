"""What can go, in the order in which it goes: units of lanes, and what it is worth that they stay.

A unit is the least that constraints let go: one lane, or one of every group where all groups keep equally many. The
units of a family go one after the other, the lowest scores first; how many have gone is all that a choice decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from onnx_oto.lanes.components import components
from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.lanes.solution import BoolArray
from onnx_oto.zigs.analysis import Analysis

_ALL = 1e12
"""What it costs, for each lane, that all of them go: more than what any other step is worth."""


@dataclass(frozen=True, eq=False)
class Family:
    """Lanes of a dimension (or of several that must keep equally many) in units, the first to go first.

    units: int64 [units, lanes per unit]. lanes: int64, all of them, those in no unit too. gone: units that are dropped
    for good, the first ones. limit: how many may be dropped at most. loss: float64 [units + 1], what it costs that so
    many are dropped, convex. steps: int64, the numbers that may be dropped, ascending. name: of the dimension.
    """

    name: str
    units: IntArray
    lanes: IntArray
    gone: int
    limit: int
    loss: FloatArray
    steps: IntArray

    @property
    def size(self) -> int:
        """How many lanes there are."""
        return int(self.lanes.size)

    @property
    def step(self) -> int:
        """How many lanes a unit has."""
        return int(self.units.shape[1])

    @cached_property
    def onward(self) -> IntArray:
        """For every number of dropped units the next larger one that may go, the largest where there is none."""
        at = np.searchsorted(self.steps, np.arange(len(self.units) + 1), side="right")
        result: IntArray = self.steps[np.minimum(at, len(self.steps) - 1)]
        return result

    @cached_property
    def backward(self) -> IntArray:
        """For every number of dropped units the next smaller one that may go, the smallest where there is none."""
        at = np.searchsorted(self.steps, np.arange(len(self.units) + 1)) - 1
        result: IntArray = self.steps[np.maximum(at, 0)]
        return result

    def allowing(self, steps: IntArray) -> Family:
        """Return the family with those of `steps` that it may lose; where there is none, it loses what is gone."""
        inside = steps[(steps >= self.gone) & (steps <= self.limit)]
        return replace(self, steps=inside if inside.size else np.array([self.gone]))


def families(
    analysis: Analysis,
    scores: FloatArray,
    gone: BoolArray | None = None,
    min_keep: float = 0.0,
    apart: IntArray | None = None,
    *,
    additive: bool = False,
) -> tuple[Family, ...]:
    """Return the families of all prunable lanes.

    scores: float64 [lanes], larger is more important; equal ones go by lane number. additive: whether they are losses,
    which add up; else what is lost is told by what share of a family they are (see `_loss`). gone: bool [lanes],
    dropped for good. min_keep: the share of its lanes that every family keeps. apart: int64 [lanes], lanes of one
    dimension that differ in it are families of their own where no constraint balances them.
    """
    before = np.zeros(analysis.lanes.count, bool) if gone is None else gone
    cells, families_of = _cells(analysis, apart)
    protected = _protected(analysis, scores, before, cells)
    result = []
    for name, columns, balanced in families_of:
        units = _units(columns, scores, before, protected)
        lanes = np.concatenate(columns)
        size = int(lanes.size)
        held = int(protected[units].any(1).sum())
        step = units.shape[1]
        done = int(before[units].any(1).sum())  # those come first, and the rest of such a unit goes too
        limit = min(len(units) - max(held, int(balanced)), math.floor(size * (1 - min_keep) / step + 1e-9))
        limit = max(limit, done, 0)
        values = np.where(before[units], -np.inf, scores[units])
        loss = _sums(values, done) if additive else _loss(values, done, size)
        result.append(Family(name, units, lanes, done, limit, loss, np.arange(done, limit + 1)))
    return tuple(result)


def dropped(analysis: Analysis, families: Sequence[Family], counts: Sequence[int] | IntArray) -> BoolArray:
    """Return the lanes that go where each family loses so many units: bool [lanes]."""
    drop = np.zeros(analysis.lanes.count, bool)
    for family, count in zip(families, counts, strict=True):
        drop[family.units[:count].reshape(-1)] = True
    return drop


def _cells(
    analysis: Analysis, apart: IntArray | None
) -> tuple[IntArray, tuple[tuple[str, tuple[IntArray, ...], bool], ...]]:
    """Return the cell of every lane and, per family, its name, the lanes of its cells, and whether it is balanced.

    One lane of every cell of a family goes at a time. Cells are told apart by dimension where each dimension is
    balanced by itself, so that each has its own share; else lanes of several dimensions go together.
    """
    of_dimension = np.full(analysis.lanes.count, -1, np.int64)
    for number, dimension in enumerate(analysis.prunable):
        of_dimension[dimension.lanes] = number
    part = of_dimension
    if apart is not None:
        kinds = np.stack([of_dimension, np.where(analysis.lanes.cells > 0, 0, apart)])
        part = np.unique(kinds, axis=1, return_inverse=True)[1].reshape(-1)
    cells = _numbered(analysis, part, analysis.lanes.cells)
    group = _linked(analysis, cells, of_dimension)
    if not _even(analysis, cells, group):
        merged = np.where(analysis.lanes.cells > 0, 0, part + 1)
        cells = _numbered(analysis, merged, analysis.lanes.cells)
        group = _linked(analysis, cells, np.zeros_like(of_dimension))
    return cells, tuple(_listed(analysis, cells, group, of_dimension))


def _numbered(analysis: Analysis, of_dimension: IntArray, cells: IntArray) -> IntArray:
    """Return cells numbered from 0, in the order of dimensions: int64 [lanes], -1 for lanes that cannot go."""
    result = np.full(analysis.lanes.count, -1, np.int64)
    parts = [dimension.lanes for dimension in analysis.prunable]
    if parts:
        lanes = np.concatenate(parts)
        pairs = of_dimension[lanes] * (int(cells.max(initial=0)) + 1) + cells[lanes]
        _, first, number = np.unique(pairs, return_index=True, return_inverse=True)
        result[lanes] = np.argsort(np.argsort(first, kind="stable"), kind="stable")[number.reshape(-1)]
    return result


def _movable(analysis: Analysis, cells: IntArray) -> Iterator[list[IntArray]]:
    """Yield the lanes of balanced rows that may go, row by row; nothing where a row has none (see `_protected`).

    A lane that is all of its dimension stays, and the others of its row may go.
    """
    for rows, _ in analysis.lanes.balanced:
        found = [row[cells[row] >= 0] for row in rows]
        if all(row.size for row in found):
            yield found


def _linked(analysis: Analysis, cells: IntArray, of_dimension: IntArray) -> IntArray:
    """Return the family of every cell: cells that a constraint balances, of one dimension, or of all uneven ones."""
    count = int(cells.max(initial=-1)) + 1
    ties: list[tuple[IntArray, IntArray]] = []
    for rows in _movable(analysis, cells):
        uneven: list[IntArray] = []
        for number in np.unique(of_dimension[np.concatenate(rows)]):
            inside = [np.unique(cells[row[of_dimension[row] == number]]) for row in rows]
            together = np.concatenate(inside)
            if len({each.size for each in inside}) == 1:
                ties.append((np.repeat(together[:1], together.size), together))
            else:
                uneven.append(together)
        if uneven:
            every = np.concatenate(uneven)
            ties.append((np.repeat(every[:1], every.size), every))
    return components(count, ties)


def _even(analysis: Analysis, cells: IntArray, group: IntArray) -> bool:
    """Return whether one lane of every cell of a family takes equally many from every row of every constraint."""
    for rows in _movable(analysis, cells):
        counts = [np.unique(group[np.unique(cells[row])], return_counts=True) for row in rows]
        if any(
            not (np.array_equal(a, counts[0][0]) and np.array_equal(b, counts[0][1])) for a, b in counts[1:]
        ):
            return False
    return True


def _listed(
    analysis: Analysis, cells: IntArray, group: IntArray, of_dimension: IntArray
) -> Iterator[tuple[str, tuple[IntArray, ...], bool]]:
    balanced = np.zeros(group.size, bool)
    for rows, _ in analysis.lanes.balanced:
        inside = cells[rows]
        balanced[inside[inside >= 0]] = True
    lanes = np.flatnonzero(cells >= 0)
    lanes = lanes[np.argsort(cells[lanes], kind="stable")]
    columns = np.split(lanes, np.flatnonzero(np.diff(cells[lanes])) + 1) if lanes.size else []
    members: dict[int, list[int]] = {}
    for cell in range(len(columns)):
        members.setdefault(int(group[cell]), []).append(cell)
    for inside_cells in members.values():
        first = columns[inside_cells[0]]
        name = analysis.prunable[int(of_dimension[first[0]])].name
        yield name, tuple(columns[cell] for cell in inside_cells), bool(balanced[inside_cells].any())


def _protected(analysis: Analysis, scores: FloatArray, gone: BoolArray, cells: IntArray) -> BoolArray:
    """Return lanes that never go, so that no dimension and no part of a split axis is emptied: bool [lanes].

    Of every such set the one of highest score in the cell that most of it is in: it would be the last to go. How much a
    cell may lose is so the same for all scores, and what went by others before never too much. Small sets come first: a
    larger one around them needs no other lane. And none goes of balanced rows of which one can lose nothing.
    """
    result = np.zeros(analysis.lanes.count, bool)
    for rows, _ in analysis.lanes.balanced:
        if not (cells[rows] >= 0).any(1).all():
            result[rows[cells[rows] >= 0]] = True
    for lanes in sorted((*analysis.nonempty, *(d.lanes for d in analysis.prunable)), key=len):
        if not result[lanes].any():
            stays = lanes[~gone[lanes]] if not gone[lanes].all() else lanes
            own = cells[lanes]
            if (own != own[0]).any():
                numbers, sizes = np.unique(own, return_counts=True)
                inside = stays[cells[stays] == numbers[sizes.argmax()]]
                stays = inside if inside.size else stays
            best = stays[np.argmax(scores[stays])]
            result[best] = True
    return result


def _units(
    columns: Sequence[IntArray], scores: FloatArray, gone: BoolArray, protected: BoolArray
) -> IntArray:
    ordered = [
        column[np.lexsort((column, scores[column], ~gone[column], protected[column]))] for column in columns
    ]
    depth = min(column.size for column in columns)
    # What a longer column has too much stays: its first lanes may go, its last ones would only pair off.
    return np.stack([column[:depth] for column in ordered], axis=1)


def _sums(values: FloatArray, gone: int) -> FloatArray:
    """Return what it costs that so many units of a family are dropped, where scores are losses: float64 [units + 1].

    In place of a unit's loss the largest of it and of those before it, so that the sum is convex.
    """
    each = np.maximum.accumulate(np.maximum(values[gone:].sum(1), 0.0)) if len(values) > gone else np.zeros(0)
    return np.concatenate([np.zeros(gone + 1), np.cumsum(each)])


def _loss(values: FloatArray, gone: int, size: int) -> FloatArray:
    """Return what it costs that so many units of a family are dropped: float64 [units + 1], 0 for those gone already.

    size * (E / E[k] - 1), E[k] the energy (sum of squared scores) that stays after k units, E that of k = gone. Units
    that are equal cost size * (size / what is left - 1), whatever their scale: in a model whose dimensions all look
    alike the same share goes of each. The error of a network falls about with a power of its width; and as costs are
    products of widths, a loss that is not steeper than a logarithm takes all from one of two neighbours and nothing
    from the other (docs/budgets.md). In place of a unit's energy the largest of it and of those before it, so that the
    loss is convex.
    """
    alive = values[gone:].mean(1) if len(values) > gone else np.zeros(0)
    squares = np.square(alive - alive.min(initial=0.0))
    if not squares.any():
        squares = np.ones_like(squares)
    left = np.append(np.cumsum(squares[::-1])[::-1], 0.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        each = size * np.diff(left[0] / left) * (len(values) / max(len(alive), 1))
    each = np.where(np.isfinite(each), each, size * _ALL)
    each = np.maximum.accumulate(np.maximum(each, 0.0))
    return np.concatenate([np.zeros(gone + 1), np.cumsum(each)])

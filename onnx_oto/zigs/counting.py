"""Costs of a choice: how they change when families give or take units, all families at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.layout import FloatArray, IntArray
from onnx_oto.zigs.terms import Terms, in_blocks
from onnx_oto.zigs.units import Family


@dataclass(frozen=True, eq=False)
class _Compiled:
    """One cost over the families.

    full: float64 [axes], widths while nothing is dropped. A place is an axis on which a family has lanes: table holds,
    from start[place] on, how many of its positions k dropped units take. pair_*: which family touches which term, and
    the place of each of its factors (-1: untouched).
    """

    terms: Terms
    full: FloatArray
    table: FloatArray
    start: IntArray
    of_family: IntArray
    of_axis: IntArray
    pair_family: IntArray
    pair_term: IntArray
    pair_place: IntArray


class Costs:
    """Several costs of the same families, each as a share of what it may be at most.

    counts: int64 [F], how many units of each family are dropped.
    """

    def __init__(self, families: Sequence[Family], costs: Sequence[tuple[Terms, float]]) -> None:
        self.families = tuple(families)
        self._compiled = [_compile(self.families, terms) for terms, _ in costs]
        self._most = np.array([most for _, most in costs], np.float64)

    def of(self, families: Sequence[Family]) -> Costs:
        """Return the costs of families with the same units, but other losses or steps."""
        result = Costs(families, ())
        result._compiled, result._most = self._compiled, self._most
        return result

    def beside(self, terms: Terms, most: float) -> Costs:
        """Return these costs and a further one."""
        result = Costs(self.families, [(terms, most)])
        result._compiled = [*self._compiled, *result._compiled]
        result._most = np.append(self._most, result._most)
        return result

    @property
    def work(self) -> int:
        """How many pairs of a family and a term one look at all families takes."""
        return sum(each.pair_family.size for each in self._compiled)

    @property
    def number(self) -> int:
        """How many costs there are."""
        return len(self._compiled)

    def at(self, counts: IntArray) -> FloatArray:
        """Return cost / budget of every cost: float64 [costs]; at most 1 where it is kept."""
        return np.array([_value(each, counts) for each in self._compiled]) / self._most

    def changes(self, counts: IntArray, to: IntArray) -> FloatArray:
        """Return by how much each cost changes when one family alone goes from counts to `to`: float64 [costs, F]."""
        every = [_changes(each, counts, to, len(self.families)) for each in self._compiled]
        return np.stack(every) / self._most[:, None] if every else np.zeros((0, len(self.families)))


def _compile(families: Sequence[Family], terms: Terms) -> _Compiled:
    lanes = 1 + max(
        (int(array.max(initial=-1)) for array in (*terms.axes, *(f.units for f in families))), default=0
    )
    family_of = np.full(lanes, -1, np.int64)
    turn_of = np.zeros(lanes, np.int64)
    for number, family in enumerate(families):
        family_of[family.units] = number
        turn_of[family.units] = np.arange(len(family.units))[:, None]
    tables: list[FloatArray] = []
    starts: list[int] = []
    of_family: list[int] = []
    of_axis: list[int] = []
    places: list[dict[int, int]] = []
    length = 0
    for axis, members in enumerate(terms.axes):
        own = family_of[members]
        here: dict[int, int] = {}
        for number in np.unique(own[own >= 0]):
            turns = turn_of[members[own == number]]
            taken = np.bincount(turns, minlength=len(families[number].units))
            here[int(number)] = len(starts)
            starts.append(length)
            of_family.append(int(number))
            of_axis.append(axis)
            tables.append(np.concatenate([[0.0], np.cumsum(taken)]))
            length += len(tables[-1])
        places.append(here)
    pairs: list[tuple[int, int, list[int]]] = [
        (number, term, [places[axis].get(number, -1) for axis in factors])
        for term, factors in enumerate(terms.index.tolist())
        for number in sorted({f for axis in factors for f in places[axis]})
    ]
    return _Compiled(
        terms,
        np.array([1.0, *(float(members.size) for members in terms.axes[1:])]),
        np.concatenate(tables) if tables else np.zeros(0),
        np.array(starts, np.int64),
        np.array(of_family, np.int64),
        np.array(of_axis, np.int64),
        np.array([pair[0] for pair in pairs], np.int64),
        np.array([pair[1] for pair in pairs], np.int64),
        np.array([pair[2] for pair in pairs], np.int64).reshape(len(pairs), terms.index.shape[1]),
    )


def _widths(cost: _Compiled, counts: IntArray) -> FloatArray:
    taken = cost.table[cost.start + counts[cost.of_family]] if cost.start.size else np.zeros(0)
    return cost.full - np.bincount(cost.of_axis, taken, cost.full.size)


def _value(cost: _Compiled, counts: IntArray) -> float:
    widths = in_blocks(_widths(cost, counts), cost.terms.block)
    return float(cost.terms.weight @ widths[cost.terms.index].prod(1))


def _changes(cost: _Compiled, counts: IntArray, to: IntArray, number: int) -> FloatArray:
    if not cost.pair_family.size:
        return np.zeros(number)
    factors = _widths(cost, counts)[cost.terms.index]
    moved = cost.table[cost.start + counts[cost.of_family]] - cost.table[cost.start + to[cost.of_family]]
    moved = np.append(moved, 0.0)  # place -1: untouched
    block = cost.terms.block[cost.terms.index][cost.pair_term]
    before = factors[cost.pair_term]
    after = before + moved[cost.pair_place]
    change = in_blocks(after, block).prod(1) - in_blocks(before, block).prod(1)
    change *= cost.terms.weight[cost.pair_term]
    return np.bincount(cost.pair_family, change, number).astype(np.float64)

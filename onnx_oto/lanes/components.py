"""Connected components of labels: the lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from onnx_oto.lanes.layout import IntArray

_LONG = 8
"""How many labels neighbours are tied together from, and how many segments must have on average for that."""
_ROUNDS = 32
"""How often it is asked whether segments end where those do that they are tied to: from tie to tie, once each."""


class _Runs(NamedTuple):
    """Ties of neighbours with neighbours: left[i] + k and right[i] + k are one lane, 0 <= k < size[i]. int64 [n]."""

    left: IntArray
    right: IntArray
    size: IntArray


def components(count: int, ties: Sequence[tuple[IntArray, IntArray]]) -> IntArray:
    """Return the lane of every label, int64 [count], lanes numbered 0.. in order of their first label.

    ties: pairs of equally long label arrays; left[i] and right[i] are the same lane. Most of them tie a whole axis
    with another one, neighbours with neighbours. Then what is tied is segments of labels, which are far fewer.
    """
    none = np.zeros(0, np.int64)
    left = np.concatenate([none, *[a if a.ndim == 1 else a.reshape(-1) for a, _ in ties]])
    right = np.concatenate([none, *[b if b.ndim == 1 else b.reshape(-1) for _, b in ties]])
    runs = _runs(left, right)
    is_long = runs.size >= _LONG
    are_long = bool(is_long.all())
    long = runs if are_long else _Runs(*[each[is_long] for each in runs])
    starts = _segments(count, long)
    if starts is None:
        return _numbered(_roots(count, left, right))
    lanes = _tied(count, starts, long)
    if are_long:
        return lanes
    short = _Runs(*[each[~is_long] for each in runs])
    left, right = short.left, short.right
    if short.size.max() > 1:
        left, right = counted(left, short.size), counted(right, short.size)
    return _numbered(_roots(int(lanes.max()) + 1, lanes[left], lanes[right]))[lanes]


def _runs(left: IntArray, right: IntArray) -> _Runs:
    """Return ties, int64 [n] each, neighbours together, without those of labels with themselves."""
    is_first = np.ones(left.size, np.bool_)
    if left.size:
        step = left[1:] - left[:-1]
        np.not_equal(step, right[1:] - right[:-1], out=is_first[1:])
        is_first[1:] |= step != 1
    at = np.flatnonzero(is_first)
    runs = _Runs(left[at], right[at], np.diff(at, append=left.size))
    apart = runs.left != runs.right
    return runs if apart.all() else _Runs(*[each[apart] for each in runs])


def _segments(count: int, runs: _Runs) -> IntArray | None:
    """Return where segments start, of which every run ties whole ones, int64 [n]; None where they are not few."""
    most = count // _LONG
    if runs.size.size > most:
        return None
    is_start = np.zeros(count + 1, np.bool_)
    is_start[0] = True
    for side in (runs.left, runs.right):
        is_start[side] = True
        is_start[side + runs.size] = True
    for _ in range(_ROUNDS):
        starts = np.flatnonzero(is_start[:count])
        if starts.size > most:
            return None
        for side, other in ((runs.left, runs.right), (runs.right, runs.left)):
            first = np.searchsorted(starts, side)
            inside = np.searchsorted(starts, side + runs.size) - first
            is_start[starts[counted(first, inside)] + np.repeat(other - side, inside)] = True
        if np.count_nonzero(is_start[:count]) == starts.size:
            return starts
    return None


def _tied(count: int, starts: IntArray, runs: _Runs) -> IntArray:
    """Return the lanes that runs make of segments, int64 [count], numbered in order of their first label."""
    sizes = np.diff(starts, append=count)
    first = np.searchsorted(starts, runs.left)
    pieces = np.searchsorted(starts, runs.left + runs.size) - first
    other = np.searchsorted(starts, runs.right)
    root = _roots(starts.size, counted(first, pieces), counted(other, pieces))
    own = np.where(root == np.arange(starts.size), sizes, 0)
    lane = np.cumsum(own) - own  # that of a root's first label; a root is the first segment of its component
    result: IntArray = np.arange(count)
    result += np.repeat(lane[root] - starts, sizes)
    return result


def counted(first: IntArray, number: IntArray) -> IntArray:
    """Return first[i] + k, 0 <= k < number[i], for one i after the other."""
    end = np.cumsum(number)
    result: IntArray = np.arange(int(end[-1]) if end.size else 0)
    result += np.repeat(first - end + number, number)
    return result


def _roots(count: int, left: IntArray, right: IntArray) -> IntArray:
    """Return the first of those that each of 0 .. count - 1 is tied to, int64 [count].

    Union by minimum with pointer jumping, all pairs at once; the number of rounds grows with the logarithm of the
    longest chain.
    """
    parent: IntArray = np.arange(count, dtype=np.int64)
    different = left != right
    left, right = left[different], right[different]
    while left.size:
        low = np.minimum(parent[left], parent[right])
        high = np.maximum(parent[left], parent[right])
        np.minimum.at(parent, high, low)
        while True:
            jumped = parent[parent]
            if np.array_equal(jumped, parent):
                break
            parent = jumped
        apart = parent[left] != parent[right]
        left, right = left[apart], right[apart]
    return parent


def _numbered(root: IntArray) -> IntArray:
    """Return components by their roots, numbered in order of those, int64 [count]."""
    number: IntArray = np.cumsum(root == np.arange(root.size)) - 1
    return number[root]

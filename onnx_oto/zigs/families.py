"""Families of lanes: those that the same parameter axes make, and that are frozen for the same reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from onnx_oto.lanes.components import counted
from onnx_oto.lanes.layout import IntArray
from onnx_oto.lanes.solution import BoolArray, distinct


class Runs(NamedTuple):
    """Lanes that follow each other on one axis of a parameter, in the order of axes and lanes, each once.

    axis: the number of the axis. first, end: the lanes first .. end - 1. int64 [runs] each.
    """

    axis: IntArray
    first: IntArray
    end: IntArray


def runs_of(axes: Sequence[IntArray], of_label: IntArray) -> Runs:
    """Return the lanes on axes, given by their labels. Most axes have lanes that follow each other: one run."""
    parts = [labels.reshape(-1) for labels in axes if labels.size]
    if not parts:
        return Runs(*[np.zeros(0, np.int64)] * 3)
    lanes = of_label[np.concatenate(parts)]
    sizes = np.array([part.size for part in parts])
    starts = np.cumsum(sizes) - sizes
    is_first = np.ones(lanes.size + 1, bool)
    np.greater(
        (lanes[1:] - lanes[:-1]).view(np.uint64), 1, out=is_first[1:-1]
    )  # neither the same nor the next
    is_first[starts] = True
    at = np.flatnonzero(is_first)
    axis = np.flatnonzero([labels.size > 0 for labels in axes])[_part_of(at[:-1], starts)]
    return _apart(Runs(axis, lanes[at[:-1]], lanes[at[1:] - 1] + 1), of_label.size)


def _apart(runs: Runs, most: int) -> Runs:
    """Return runs of one axis ascending, those that have lanes in common put together. most: lanes there may be."""
    axis, first, end = runs
    if not ((first[1:] < end[:-1]) & (axis[1:] == axis[:-1])).any():
        return runs
    bits = most.bit_length()
    low, high = (axis << bits) | first, (axis << bits) | end
    order = np.argsort(low, kind="stable")
    low, high = low[order], np.maximum.accumulate(high[order])
    at = np.flatnonzero(np.append(True, low[1:] > high[:-1]))
    low, high = low[at], high[np.append(at[1:], high.size) - 1]
    mask = (1 << bits) - 1
    return Runs(low >> bits, low & mask, high & mask)


def _part_of(places: IntArray, starts: IntArray) -> IntArray:
    """Return in which part places lie, that start there and are not empty."""
    return np.searchsorted(starts, places, "right") - 1


def families(runs: Runs, producing: BoolArray, reason: IntArray, reasons: int) -> IntArray:
    """Return the family of every lane, numbered in the order of first lanes, int64 [lanes]; -1: no axis makes it.

    producing: which axes make lanes. reason: why each lane is frozen, one of `reasons`; -1: it is not.
    """
    numbers = _scattered(producing.size + reasons + 1)
    changes = np.zeros(reason.size + 1, np.uint64)
    given = np.where(producing, numbers[: producing.size], np.uint64(0))[runs.axis]
    np.bitwise_xor.at(changes, runs.first, given)
    np.bitwise_xor.at(changes, runs.end, given)
    signature = np.bitwise_xor.accumulate(changes)[:-1]  # of all that make a lane
    shown = np.flatnonzero(signature)
    kinds = signature[shown] ^ numbers[producing.size :][reason[shown]]  # reason -1 is the last entry
    _, first, family = np.unique(kinds, return_index=True, return_inverse=True)
    result = np.full(reason.size, -1, np.int64)
    result[shown] = np.argsort(np.argsort(first))[family.reshape(-1)]
    return result


def _scattered(count: int) -> npt.NDArray[np.uint64]:
    """Return numbers of which no two sets have the same xor, but by a chance in 2^64: uint64 [count].

    The sequence of splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). To load
    numpy's generators takes as long as a tenth of an analysis.
    """
    numbers = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        numbers = (numbers ^ (numbers >> np.uint64(shift))) * np.uint64(factor)
    return numbers ^ (numbers >> np.uint64(31))


def members(of_lane: IntArray) -> list[IntArray]:
    """Return the lanes of every family, ascending. of_lane: see `families`."""
    shown = np.flatnonzero(of_lane >= 0)
    if not shown.size:
        return []
    family = of_lane[shown]
    return np.split(shown[np.argsort(family, kind="stable")], np.cumsum(np.bincount(family))[:-1])


def meetings(runs: Runs, of_lane: IntArray, count: int) -> list[tuple[int, int]]:
    """Return which axis has lanes of which of `count` families, ascending, each pair once."""
    is_start = np.ones(of_lane.size, bool)
    np.not_equal(of_lane[1:], of_lane[:-1], out=is_start[1:])
    starts = np.flatnonzero(is_start)  # of lanes of one family that follow each other
    first = _part_of(runs.first, starts)
    number = _part_of(runs.end - 1, starts) - first + 1
    family = of_lane[starts][counted(first, number)]
    bits = count.bit_length()
    pairs = (np.repeat(runs.axis, number) << bits) | family
    found = distinct(pairs[family >= 0])
    return list(zip((found >> bits).tolist(), (found & ((1 << bits) - 1)).tolist(), strict=True))

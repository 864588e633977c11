"""Axes of several tensors brought to common factors, one axis after the other."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from onnx_oto.lanes.layout import Layout, Size, changed, fresh_key, product, rename, split
from onnx_oto.lanes.trace import Trace, describe
from onnx_oto.model.graph.node import Node


class Meeting:
    """Operands whose axes get common factors: those of the first that has the axis, or new ones.

    names: by operand, those of its factors that are not its own. sizes: of common factors. having: how many operands
    have a common factor.
    """

    def __init__(self, operands: list[Layout]) -> None:
        self.operands = operands
        self.names: list[dict[int, int]] = [{} for _ in operands]
        self.sizes: dict[int, Size] = {}
        self.having: dict[int, int] = {}
        self._axes = [op.axes for op in operands]
        keys = [key for axes in self._axes for axis in axes for key in axis]
        self._apart = len(set(keys)) == len(keys)

    def common(self, trace: Trace, node: Node, place: int) -> tuple[int, ...]:
        """Return the common factors of an axis, counted from the last."""
        operands = self.operands
        there = [i for i, axes in enumerate(self._axes) if -place <= len(axes) and axes[place]]
        if not there:
            return ()
        first = operands[there[0]]
        if len(there) > 1 and not _is_single(operands, there, place):
            _refine(trace, node, operands, there, place)
            first = operands[there[0]]
        own = first.axes[place]
        common = own if self._apart else tuple([fresh_key() for _ in own])
        sizes, count = self.sizes, len(there)
        for at, name in enumerate(common):
            size = first.sizes[own[at]]
            self.having[name] = count
            for i in there:
                op = operands[i]
                key = op.axes[place][at]
                if key != name:
                    self.names[i][key] = name
                    if not isinstance(size, int):
                        size = op.sizes[key]
            sizes[name] = size
        return common

    def renamed(self, rank: int) -> tuple[Layout, ...]:
        """Return the operands with common factors; without blocks they stay as they are."""
        return tuple(
            [
                rename(op, its, self.sizes, rank) if its and op.blocks else op
                for op, its in zip(self.operands, self.names, strict=True)
            ]
        )

    def present(self) -> list[set[int]]:
        """Return the common factors that every operand has."""
        return [
            {its.get(key, key) for axis in op.axes for key in axis}
            for op, its in zip(self.operands, self.names, strict=True)
        ]


def _is_single(operands: Sequence[Layout], there: Sequence[int], place: int) -> bool:
    """Return whether an axis is one factor in all of some operands, of the same size."""
    size: Size = None
    for at, i in enumerate(there):
        op = operands[i]
        keys = op.axes[place]
        if len(keys) > 1 or (at and op.sizes[keys[0]] != size):
            return False
        size = op.sizes[keys[0]]
    return True


def _refine(trace: Trace, node: Node, operands: list[Layout], present: Sequence[int], axis: int) -> None:
    """Split the factors of `axis`, counted from the last, until all operands that have it have the same ones.

    present: which operands have it.
    """
    sizes = [[operands[i].sizes[k] for k in operands[i].axes[axis]] for i in present]
    first = sizes[0]
    if all(s == first or _same(s, first) for s in sizes):
        return
    tails = [_static_tail(s) for s in sizes]
    heads = [s[: len(s) - len(t)] for s, t in zip(sizes, tails, strict=True)]
    strides = _common_strides(tails) if all(_same(h, heads[0]) for h in heads[1:]) else None
    if strides is None:
        for i in present:
            if operands[i].on_axis(axis):
                reason = f"{describe(node)} combines axes that are composed differently"
                operands[i] = trace.release(operands[i], [axis], reason)
            operands[i] = _single_factor(operands[i], axis)
        return
    for i, head in zip(present, heads, strict=True):
        operands[i] = _split_at(operands[i], axis, len(head), strides)


def _same(left: Sequence[Size], right: Sequence[Size]) -> bool:
    """Return whether two factor lists match one to one; unknown sizes match anything that is not a number."""
    return len(left) == len(right) and all(
        a == b or not (isinstance(a, int) and isinstance(b, int)) for a, b in zip(left, right, strict=True)
    )


def _static_tail(sizes: Sequence[Size]) -> list[int]:
    tail: list[int] = []
    for size in reversed(sizes):
        if not isinstance(size, int):
            break
        tail.insert(0, size)
    return tail


def _common_strides(tails: Sequence[Sequence[int]]) -> list[int] | None:
    """Return all cut points as strides, largest first; None if the tails differ in size or do not nest."""
    if len({product(t) for t in tails}) != 1:
        return None
    strides = {1, product(tails[0]) or 1}
    for tail in tails:
        stride = 1
        for size in reversed(tail):
            strides.add(stride)
            stride *= size
    ordered = sorted(strides, reverse=True)
    nested = all(a % b == 0 for a, b in itertools.pairwise(ordered))
    return ordered if nested else None


def _split_at(layout: Layout, axis: int, skip: int, strides: Sequence[int]) -> Layout:
    inner = 1
    for key in reversed(layout.axes[axis][skip:]):
        size = layout.sizes[key]
        assert isinstance(size, int)
        total, current = inner * size, key
        for cut in (s for s in strides if inner < s < total):
            position = layout.axes[axis].index(current)
            layout = split(layout, current, _span(layout, current) * inner // cut, cut // inner)
            current = layout.axes[axis][position + 1]
        inner = total
    return layout


def _span(layout: Layout, key: int) -> int:
    size = layout.sizes[key]
    assert isinstance(size, int)
    return size


def _single_factor(layout: Layout, axis: int) -> Layout:
    key = fresh_key()
    axes = list(layout.axes)
    sizes = dict(layout.sizes) | {key: layout.length(axis)}
    axes[axis] = (key,)
    return changed(layout, axes=tuple(axes), sizes=sizes, view=None)

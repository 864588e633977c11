"""Bringing the layouts of several tensors to common factors, position by position (numpy broadcasting)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    Layout,
    Size,
    fresh_key,
    product,
    rename,
    split,
    thin,
    thin_values,
    with_blocks,
)
from onnx_oto.lanes.repairs.shadow import cast_shadow
from onnx_oto.lanes.trace import Role, Trace, describe, unknown
from onnx_oto.model.graph.node import Node


class Joined(NamedTuple):
    """A block of the aligned result, and the same block as each operand has it (None: the operand has none)."""

    keys: tuple[int, ...]
    operands: tuple[Block | None, ...]

    @property
    def first(self) -> Block:
        return next(filter(None, self.operands))


class Aligned(NamedTuple):
    """Operands over common axes: `layout` has the broadcast axes and no blocks.

    Operands have the names of the common factors, but those without blocks, which may have other ones.
    """

    layout: Layout
    joined: tuple[Joined, ...]
    operands: tuple[Layout, ...]

    def states(self, group: Joined) -> list[FloatArray]:
        """Return the state of every operand at the positions of `group`."""
        if None not in group.operands:
            return [block.state for block in group.operands if block is not None]
        shape = group.first.labels.shape
        return [
            thin(np.nan if layout.uniform is None else layout.uniform, shape)
            if block is None
            else block.state
            for block, layout in zip(group.operands, self.operands, strict=True)
        ]


def align(trace: Trace, node: Node, layouts: Sequence[Layout], *, inner: bool = False) -> Aligned:
    """Tie the operands' labels position by position and return their common layout.

    Axes match from the right; an axis of size 1 ties nothing. Where one operand labels an axis that another
    has unlabelled at full size, the labels are frozen. Where operands label different sets of factors jointly
    (heads x head-dim against heads), the larger block collapses to whole rows; `inner`: to what all of them have
    (head-dim, where all heads share one).
    """
    for layout in layouts:
        if layout.blocks:
            trace.materialise(layout, node, told_apart=())
    if len(layouts) == 1:
        (alone,) = layouts
        axes_alone = Layout(alone.axes, alone.sizes, constant=alone.constant)
        return Aligned(axes_alone, tuple([Joined(b.keys, (b,)) for b in alone.blocks]), (alone,))
    rank = max([len(layout.axes) for layout in layouts])
    operands = list(layouts)
    meeting = _Meeting(operands)
    axes = tuple([meeting.common(trace, node, place) for place in range(-rank, 0)])
    met = meeting.renamed(rank)
    joined = _join(trace, node, met, meeting, shared=inner)
    constant = all(op.constant for op in met)
    return Aligned(Layout(axes, meeting.sizes, constant=constant), joined, met)


class _Meeting:
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
        common = first.axes[place] if self._apart else tuple([fresh_key() for _ in first.axes[place]])
        sizes, count = self.sizes, len(there)
        for at, name in enumerate(common):
            sizes[name] = first.sizes[first.axes[place][at]]
            self.having[name] = count
            for i in there:
                op = operands[i]
                key = op.axes[place][at]
                if key != name:
                    self.names[i][key] = name
                    if not isinstance(sizes[name], int):
                        sizes[name] = op.sizes[key]
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
    sizes = set()
    for i in there:
        op = operands[i]
        keys = op.axes[place]
        if len(keys) > 1:
            return False
        sizes.add(op.sizes[keys[0]])
    return len(sizes) == 1


def _join(
    trace: Trace, node: Node, operands: Sequence[Layout], meeting: _Meeting, *, shared: bool
) -> tuple[Joined, ...]:
    """Return the operands' blocks that belong together, tied."""
    joined: list[Joined] = []
    present: list[set[int]] = []
    for cluster in _clusters([(i, block) for i, op in enumerate(operands) for block in op.blocks]):
        keys = cluster[0][1].keys
        alike = all(block.keys == keys for _, block in cluster)
        if alike and len(keys) == 1 and len(cluster) == meeting.having[keys[0]]:
            joined.append(_tied(trace, cluster, keys, len(operands)))
            continue
        present = present or meeting.present()
        met = _reconcile(trace, node, operands, cluster, present, shared=shared)
        if met is not None:
            joined.append(met)
    return tuple(joined)


def combine(
    trace: Trace,
    node: Node,
    layouts: Sequence[Layout],
    state: Callable[..., FloatArray],
    roles: Sequence[Role],
    *,
    elementwise: bool = False,
) -> Layout:
    """Return the layout of an elementwise op: `state` maps the operands' states to the result's.

    roles[i]: what a parameter does as operand i. Only a producer may count as zero. elementwise: the operands are
    all of the node's inputs, so that shadows can be told (see `repairs/shadow.py`).
    """
    aligned = align(trace, node, layouts)
    constant = aligned.layout.constant
    blocks = []
    for group in aligned.joined:
        states = aligned.states(group)
        if not constant:
            for i, block in enumerate(group.operands):
                if block is not None and aligned.operands[i].constant:
                    trace.assign(block, roles[i])
                    if roles[i] is not Role.PRODUCER:
                        states[i] = unknown(block.labels.shape)
        value = result_of(state, states, states)
        if elementwise and len(aligned.joined) == len(group.keys) == 1 and _is_unknown(value):
            cast_shadow(trace.shadows, node, group.operands, states)
        given = [block for block in group.operands if block is not None]
        source = tuple([s for block in given for s in block.source]) if constant else ()
        repeated = all(block.repeated for block in given)
        blocks.append(Block(group.keys, given[0].labels, value, source, repeated))
    return with_blocks(aligned.layout, blocks)


def result_of(
    state: Callable[..., FloatArray], states: Sequence[FloatArray], poisoning: Sequence[FloatArray]
) -> FloatArray:
    """Return what `state`, which is elementwise, makes of states, with poison (see `finite_or_poison`).

    Where all are `thin` it is asked about one position. poisoning: the states whose infinity is handed on.
    """
    with np.errstate(all="ignore"):
        values, given = thin_values(states), thin_values(poisoning)
        if values is not None and given is not None:
            found = state(*[np.array([value]) for value in values])
            if found.size == 1:
                return thin(_finite_or_poison(given, float(found.item())), states[0].shape)
        return finite_or_poison(poisoning, state(*states))


def _finite_or_poison(inputs: Sequence[float], value: float) -> float:
    return math.inf if math.isinf(value) or any(map(math.isinf, inputs)) else value


def _is_unknown(state: FloatArray) -> bool:
    """Return whether nothing is known of any position, and there are some."""
    values = thin_values((state,))
    return math.isnan(values[0]) if values is not None else bool(state.size and np.isnan(state).all())


def finite_or_poison(inputs: Sequence[FloatArray], value: FloatArray) -> FloatArray:
    """Return `value` with inf (poison) where it is infinite or an input was poison; NaN stays: nothing is known."""
    result: FloatArray = np.empty(inputs[0].shape)
    result[...] = value
    poison = np.isinf(result)
    for state in inputs:
        poison |= np.isinf(state)
    result[poison] = np.inf
    return result


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
    return replace(layout, axes=tuple(axes), sizes=sizes, view=None)


def _clusters(labelled: Sequence[tuple[int, Block]]) -> list[list[tuple[int, Block]]]:
    """Return operands' blocks in clusters that share factors."""
    if len(labelled) == 1:
        return [list(labelled)]
    if all(len(block.keys) == 1 for _, block in labelled):
        by_key: dict[tuple[int, ...], list[tuple[int, Block]]] = {}
        for each in labelled:
            by_key.setdefault(each[1].keys, []).append(each)
        return list(by_key.values())
    clusters: list[tuple[set[int], list[tuple[int, Block]]]] = []
    for i, block in labelled:
        keys, members = set(block.keys), [(i, block)]
        meeting = [other for other in clusters if other[0] & keys]
        if len(meeting) == 1:
            meeting[0][0].update(keys)
            meeting[0][1].extend(members)
            continue
        apart = []
        for other in clusters:
            if other[0] & keys:
                keys |= other[0]
                members = other[1] + members
            else:
                apart.append(other)
        clusters = [*apart, (keys, members)]
    return [members for _, members in clusters]


def _reconcile(
    trace: Trace,
    node: Node,
    operands: Sequence[Layout],
    cluster: list[tuple[int, Block]],
    present: Sequence[set[int]],
    *,
    shared: bool,
) -> Joined | None:
    """Bring the blocks of one cluster to one set of factors and tie them; None if all of them were frozen.

    present: the factors that every operand has.
    """
    keys, whole = cluster[0][1].keys, _whole(cluster, present)
    if not whole and all(block.keys == keys for _, block in cluster):
        return _tied(trace, cluster, keys, len(operands))
    if shared and len({frozenset(block.keys) for _, block in cluster}) > 1:
        trace.freeze([b for _, b in cluster if b.repeated], _reason(trace, node, operands, cluster))
        cluster = [(i, b) for i, b in cluster if not b.repeated] or cluster
        keys, whole = cluster[0][1].keys, _whole(cluster, present)
    inner = trace.head_dims and _has_rows_whole(cluster, whole)
    target = keys if inner else _target(cluster, present, whole, inner=trace.head_dims or shared)
    if inner:
        trace.balance(cluster[0][1], node)
    misfits = [block for _, block in cluster if not target or not set(target) <= set(block.keys)]
    if misfits:
        trace.freeze(misfits, _reason(trace, node, operands, cluster))
    fitting = [(i, b) for i, b in cluster if target and set(target) <= set(b.keys)]
    return _tied(trace, fitting, target, len(operands)) if fitting else None


def _tied(trace: Trace, cluster: Sequence[tuple[int, Block]], target: tuple[int, ...], count: int) -> Joined:
    """Tie blocks, each of an operand, over the factors `target` that all of them have. count: of the operands."""
    by_operand: list[Block | None] = [None] * count
    if len({i for i, _ in cluster}) == len(cluster) and all(block.keys == target for _, block in cluster):
        first = cluster[0][1]
        for i, block in cluster:
            by_operand[i] = block
            if block is not first:
                trace.tie(first.labels, block.labels)
        return Joined(target, tuple(by_operand))
    for i, block in cluster:
        narrow, own = trace.collapse(block, target), by_operand[i]
        if own is None:
            by_operand[i] = narrow
        else:
            trace.tie(own.labels, narrow.labels)
    first, *others = [b for i in dict.fromkeys([i for i, _ in cluster]) if (b := by_operand[i]) is not None]
    for block in others:
        trace.tie(first.labels, block.labels)
    return Joined(target, tuple(by_operand))


def _reason(
    trace: Trace, node: Node, operands: Sequence[Layout], cluster: Sequence[tuple[int, Block]]
) -> str:
    """Return why blocks are frozen: an operand is whole there (and why, if that is known), or divided otherwise."""
    labelled = {i for i, _ in cluster}
    whole = [name for i, name in enumerate(node.inputs) if i not in labelled or i >= len(operands)]
    quantized = [name for name in whole if _rests_on_quantized(trace, name)]
    if len(operands) == len(node.inputs) or quantized:
        for name in quantized or whole:
            if cause := trace.cause(name):
                return f"{describe(node)} combines the axis with that of '{name}', which stays whole: {cause}"
    return f"{describe(node)} combines the axis with one that is whole, or divided differently"


def _rests_on_quantized(trace: Trace, name: str) -> bool:
    layout = trace.layouts.get(name)
    return layout is not None and not layout.blocks and "quantized" in trace.cause(name)


def _target(
    cluster: list[tuple[int, Block]], present: Sequence[set[int]], whole: set[int], *, inner: bool = False
) -> tuple[int, ...]:
    """Return the factors that stay labelled: those that every block of the cluster has and no operand has whole.

    A block over fewer factors, broadcast along the larger block's outermost one (a rotary table along heads),
    gives way to that outermost factor, unless lanes are to go from the `inner` factors.
    """
    largest = max((b for _, b in cluster), key=lambda b: len(b.keys))
    common = [k for k in largest.keys if k not in whole and all(k in b.keys for _, b in cluster)]
    outermost = next((k for k in largest.keys if k not in whole), None)
    if outermost is None:
        return ()
    if common and (inner or outermost in common or _has(present, outermost, largest)):
        return tuple(common)
    return (outermost,)


def _whole(cluster: Sequence[tuple[int, Block]], present: Sequence[set[int]]) -> set[int]:
    """Return the factors of the cluster that some operand has without a label."""
    first = cluster[0][1].keys
    if len(first) == 1 and all(block.keys == first for _, block in cluster):
        (key,) = first
        having = {i for i, _ in cluster}
        return {key} if any(key in its and i not in having for i, its in enumerate(present)) else set()
    labelled: dict[int, set[int]] = {}
    for i, block in cluster:
        labelled.setdefault(i, set()).update(block.keys)
    keys = set().union(*labelled.values())
    nothing = set[int]()
    return {key for i, its in enumerate(present) for key in (keys & its) - labelled.get(i, nothing)}


def _has_rows_whole(cluster: Sequence[tuple[int, Block]], whole: set[int]) -> bool:
    """Return whether all blocks label the same factors jointly and operands have only outer ones of them whole.

    So it is with attention's scores, which have the heads, and its values, which have positions in every head.
    """
    keys = cluster[0][1].keys
    same = all(block.keys == keys for _, block in cluster)
    return same and bool(whole) and whole <= set(keys[:-1])


def _has(present: Sequence[set[int]], key: int, block: Block) -> bool:
    """Return whether every operand that carries one of the block's factors carries factor `key` too."""
    return all(key in its or its.isdisjoint(block.keys) for its in present)

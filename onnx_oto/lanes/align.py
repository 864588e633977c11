"""Bringing the layouts of several tensors to common factors, position by position (numpy broadcasting)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from onnx_oto.lanes.layout import Block, FloatArray, Layout, thin, with_blocks
from onnx_oto.lanes.meeting import Meeting
from onnx_oto.lanes.repairs.shadow import cast_shadow
from onnx_oto.lanes.states import is_unknown, result_of
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
        if layout.joint():
            trace.materialise(layout, node, told_apart=())
    if len(layouts) == 1:
        (alone,) = layouts
        axes_alone = Layout(alone.axes, alone.sizes, constant=alone.constant)
        return Aligned(axes_alone, tuple([Joined(b.keys, (b,)) for b in alone.blocks]), (alone,))
    rank = max([len(layout.axes) for layout in layouts])
    operands = list(layouts)
    meeting = Meeting(operands)
    axes = tuple([meeting.common(trace, node, place) for place in range(-rank, 0)])
    met = meeting.renamed(rank)
    joined = _join(trace, node, met, meeting, shared=inner)
    constant = all(op.constant for op in met)
    return Aligned(Layout(axes, meeting.sizes, constant=constant), joined, met)


def _join(
    trace: Trace, node: Node, operands: Sequence[Layout], meeting: Meeting, *, shared: bool
) -> tuple[Joined, ...]:
    """Return the operands' blocks that belong together, tied."""
    joined: list[Joined] = []
    present: list[set[int]] = []
    for cluster in _clusters([(i, block) for i, op in enumerate(operands) for block in op.blocks]):
        keys = cluster[0][1].keys
        is_met = len(keys) == 1 and len(cluster) == meeting.having.get(keys[0])
        if is_met and all(block.keys == keys for _, block in cluster):
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
        if elementwise and len(aligned.joined) == len(group.keys) == 1 and is_unknown(value):
            cast_shadow(trace.shadows, node, group.operands, states)
        given = [block for block in group.operands if block is not None]
        source = tuple([s for block in given for s in block.source]) if constant else ()
        repeated = all(block.repeated for block in given)
        blocks.append(Block(group.keys, given[0].labels, value, source, repeated))
    return with_blocks(aligned.layout, blocks)


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
    first = cluster[0][1]
    for i, block in cluster:
        if by_operand[i] is not None or block.keys != target:
            by_operand = [None] * count
            break
        by_operand[i] = block
    else:
        for _, block in cluster[1:]:
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
    whole: set[int] = set()
    for i, its in enumerate(present):
        if not keys.isdisjoint(its):
            whole |= (keys & its) - labelled[i] if i in labelled else keys & its
    return whole


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

"""Products summed over axes: the common core of Conv, Gemm, MatMul, Einsum."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cache

import numpy as np

from onnx_oto.lanes.align import Aligned, Joined, align
from onnx_oto.lanes.layout import (
    Block,
    FloatArray,
    IntArray,
    Layout,
    Size,
    changed,
    thin,
    thin_values,
    with_axes,
    with_blocks,
)
from onnx_oto.lanes.states import remembered, result_of
from onnx_oto.lanes.trace import Role, Trace, describe, unknown
from onnx_oto.model.graph.node import Node


def zero_or_unknown(state: FloatArray) -> FloatArray:
    """Return the state after something that keeps a zero and says nothing of other values."""
    values = thin_values((state,))
    if values is not None:
        return thin(0.0 if values[0] == 0 else np.nan, state.shape)
    return np.where(state == 0, 0.0, np.nan)


@remembered
def times(*states: FloatArray) -> FloatArray:
    """Return the state of a product: zero times anything finite is zero."""
    value = states[0]
    for other in states[1:]:
        value = np.where((value == 0) | (other == 0), 0.0, value * other)
    return value


def contract(
    trace: Trace,
    node: Node,
    operands: Sequence[tuple[Layout, str]],
    out: str,
    *,
    macs: Sequence[Size] = (),
    constants: bool = False,
) -> Layout:
    """Return the layout of sum over the letters that `out` lacks of the product of the operands (as einsum).

    Equal letters tie. A free letter of a parameter is a producer, a summed one a consumer; what is summed over
    must be zero in a removed lane (or a known constant, if `constants`: the caller then repairs the sum).
    Multiply-accumulates are the product of the sizes of all letters and those in `macs`.
    """
    letters = _letters(out, tuple([ls for _, ls in operands]))
    wide = [_spread(layout, ls, letters) for layout, ls in operands]
    wide = [_without_unknown(trace, node, wide, i, len(out)) for i in range(len(wide))]
    aligned = align(trace, node, wide, inner=not any(layout.constant for layout in wide))
    summed = {k for axis in aligned.layout.axes[len(out) :] for k in axis}
    blocks = []
    constant = [op.constant for op in aligned.operands]
    for group in aligned.joined:
        inside = [k for k in group.keys if k in summed]
        outside = tuple([k for k in group.keys if k not in summed])
        states = aligned.states(group)
        for i, block in enumerate(group.operands):
            if block is None or not constant[i]:
                continue
            trace.assign(block, Role.PRODUCER if outside else Role.CONSUMER, weight=True)
            if not outside and block.source:
                states[i] = unknown(block.labels.shape)
        # A zero that the graph makes (an initial state) is read like any other value, a parameter's slice is cut.
        made = [
            not stored or (b is not None and not b.source)
            for stored, b in zip(constant, group.operands, strict=True)
        ]
        read = [state for state, each in zip(states, made, strict=True) if each]
        value = result_of(times, read if read and not outside else states, states)
        block = Block(group.keys, group.first.labels, value)
        rows_stay = bool(inside) and _rows_stay(trace, aligned, group, inside)
        if rows_stay:
            trace.balance(block, node)
        if rows_stay or not outside:
            trace.demand_zero(block, node, "the sum", constants=constants)
            continue
        if inside:
            block = trace.collapse(block, outside)
        if summed:
            block = Block(
                block.keys, block.labels, zero_or_unknown(block.state), block.source, block.repeated
            )
        blocks.append(block)
    batched = [group for group in aligned.joined if _is_batched(group, summed)]
    along = [group.first for group in aligned.joined if group not in batched]
    count_products(trace, node, aligned.layout, along, macs, repeated=[group.first for group in batched])
    return with_blocks(with_axes(aligned.layout, aligned.layout.axes[: len(out)]), blocks)


@cache
def _letters(out: str, operands: tuple[str, ...]) -> str:
    """Return the letters of all operands, those of the result first."""
    return out + "".join(dict.fromkeys(c for letters in operands for c in letters if c not in out))


def _is_batched(group: Joined, summed: set[int]) -> bool:
    """Return whether several operands have an axis that is not summed over: a product for each of its positions."""
    return len(group.operands) - group.operands.count(None) > 1 and summed.isdisjoint(group.keys)


def _rows_stay(trace: Trace, aligned: Aligned, group: Joined, inside: Sequence[int]) -> bool:
    """Return whether a product of two activations over positions inside heads loses such positions, not heads."""
    computed = not any(op.constant for op, b in zip(aligned.operands, group.operands, strict=True) if b)
    return trace.head_dims and computed and group.keys[1:] == tuple(inside)


def _without_unknown(trace: Trace, node: Node, operands: Sequence[Layout], index: int, kept: int) -> Layout:
    """Return an operand without lanes that stay in any case: summed with a parameter, and nothing known of them.

    Frozen first, they do not stand in the way of others on the same axis. kept: how many axes are not summed over.
    """
    layout = operands[index]
    if layout.constant or len(layout.blocks) < 2:
        return layout
    axes = [axis for axis in range(kept, layout.rank) if _meets_parameters(operands, index, axis)]
    crowd = [b for axis in axes if len(layout.on_axis(axis)) > 1 for b in layout.on_axis(axis)]
    gone = [b for b in dict.fromkeys(crowd) if np.isnan(b.state).all() and _lies_on(layout, b, axes)]
    if not gone or len(gone) == len(layout.blocks):
        return layout
    for block in gone:
        trace.demand_zero(block, node, "the sum")
        trace.tell_apart(block.labels, f"{describe(node)} sums them with others")
    return changed(layout, blocks=tuple(b for b in layout.blocks if b not in gone), view=None)


def _lies_on(layout: Layout, block: Block, axes: Sequence[int]) -> bool:
    return set(block.keys) <= {key for axis in axes for key in layout.axes[axis]}


def _meets_parameters(operands: Sequence[Layout], index: int, axis: int) -> bool:
    """Return whether only parameters have that axis too."""
    return all(op.constant for i, op in enumerate(operands) if i != index and op.axes[axis])


def count_products(
    trace: Trace,
    node: Node,
    layout: Layout,
    blocks: Sequence[Block],
    sizes: Sequence[Size],
    per_group: Sequence[IntArray] = (),
    repeated: Sequence[Block] = (),
) -> None:
    """Count the positions of all axes of `layout`, those that blocks label by what stays of them, times `sizes`."""
    labelled = {key for block in (*blocks, *repeated) for key in block.keys}
    counted, seen = [], set[int]()
    composed = [keys for keys in layout.axes if len(keys) > 1]
    for block in blocks:
        beside = _beside(composed, layout.sizes, block, labelled)
        times = math.prod([size for key in beside if isinstance(size := layout.sizes[key], int)])
        if beside and trace.budget.take(8 * times * block.labels.size):
            counted.append(np.repeat(block.labels, times))
            seen.update(beside)
        else:
            counted.append(block.labels)
    free = [layout.sizes[k] for axis in layout.axes for k in axis if k not in labelled and k not in seen]
    trace.count_macs(node, [*free, *sizes], counted, per_group, [block.labels for block in repeated])


def _beside(
    axes: Iterable[tuple[int, ...]], sizes: Mapping[int, Size], block: Block, labelled: set[int]
) -> list[int]:
    """Return the factors of known size that make up an axis together with that of a block (heads times their size)."""
    for axis in axes:
        if labelled.intersection(axis) == set(block.keys) and len(block.keys) == 1:
            free = [key for key in axis if key not in labelled]
            return free if all(isinstance(sizes[key], int) for key in free) else []
    return []


def _spread(layout: Layout, letters: str, over: str) -> Layout:
    axes = dict(zip(letters, layout.axes, strict=False))
    return with_axes(layout, [axes.get(c, ()) for c in over])

"""If, Loop and Scan: what goes into a body and comes out of it is tied to what lies outside (see `model.graph.flat`).

The nodes of a body have rules like any others, so all that is left to say is which tensors are one: the outputs of both
branches and of the If; what a loop carries, at its start, in front of a trip, behind it and at its end.

The certificate of what is carried is a fixed point. In front of a trip a channel is supposed to be what it is at the
start once its group is zero. If the body makes the same of it, it is so in every trip, however many there are; if not,
its lane stays. States of other lanes do not rest on the supposition, as a state is that of a lane's own group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from onnx_oto.lanes.align import Aligned, align
from onnx_oto.lanes.layout import Block, Layout, Size, fresh_key, with_blocks
from onnx_oto.lanes.states import finite_or_poison
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.flat import BODIES, owner_of
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.index import free_axis
from onnx_oto.ops.rules import rule


@rule(f"{BODIES}::If", spreads=True, orderless=True, any_rank=True)
def branches(node: Node, trace: Trace) -> None:
    """y is what one branch gives, or what the other gives: their lanes are the same ones."""
    given, count = node.inputs[1:], len(node.outputs)
    for name, one, other in zip(node.outputs, given[:count], given[count:], strict=True):
        if not name:
            continue
        alone = _only(trace, name, one, other)
        if alone is not None:
            trace.materialise(alone, node)
            trace.put(name, replace(alone, view=None))
            continue
        aligned = _meet(node, trace, name, (one, other), "has branches that give other sizes")
        if aligned is None:
            continue
        constant = aligned.layout.constant
        blocks = []
        for group in aligned.joined:
            states = np.stack(aligned.states(group))
            same = np.where(states[0] == states[1], states[0], np.nan)
            state = finite_or_poison(list(states), same)
            source = tuple(s for b in group.operands if b is not None for s in b.source) if constant else ()
            blocks.append(Block(group.keys, group.first.labels, state, source))
        _put(trace, name, aligned, blocks, (one, other), constant=constant)


def _only(trace: Trace, name: str, one: str, other: str) -> Layout | None:
    """Return the layout of what one branch gives if the other one gives another rank than the output can have.

    Then that branch is taken (see `model.shapes.ranks`).
    """
    shape = trace.graph.shapes.get(name)
    found = [trace.layout(source) for source in (one, other)]
    if name not in trace.graph.settled or shape is None or any(layout is None for layout in found):
        return None
    fitting = [layout for layout in found if layout is not None and layout.rank == len(shape)]
    return fitting[0] if len(fitting) == 1 else None


@rule(f"{BODIES}::LoopEntry", spreads=True, orderless=True, any_rank=True)
def enter_loop(node: Node, trace: Trace) -> None:
    """The number of the trip, the condition, and what is carried."""
    for name in node.outputs[:2]:
        trace.put(name, trace.shaped(name))
    for start, name in zip(node.inputs[2:], node.outputs[2:], strict=True):
        _carry(node, trace, start, name)
    trips = _trips(node, trace)
    if trips is not None:
        trace.repeats[owner_of(node.name)] = trips


def _trips(node: Node, trace: Trace) -> int | None:
    """Return how often the body of a Loop runs, None unless its number is a constant and nothing else ends it."""
    graph = trace.graph
    most = graph.constant(node.inputs[0]) if node.inputs[0] else None
    readers = [reader for reader, _ in graph.consumers.get(node.inputs[0], ())]
    end = next((reader for reader in readers if reader.name == owner_of(node.name)), None)
    if most is None or most.size != 1 or end is None:
        return None
    conditions = [*filter(None, node.inputs[1:2]), end.inputs[len(node.inputs)]]
    values = [graph.partial(name) for name in conditions]
    sure = all(value is not None and value.size == 1 and value.reshape(-1)[0] is True for value in values)
    return max(int(most.reshape(-1)[0]), 0) if sure else None


@rule(f"{BODIES}::ScanEntry", spreads=True, orderless=True, any_rank=True)
def enter_scan(node: Node, trace: Trace) -> None:
    """What is carried, and one slice of everything that is scanned."""
    states = len(node.inputs) - int(node.attrs["num_scan_inputs"])
    for start, name in zip(node.inputs[:states], node.outputs[:states], strict=True):
        _carry(node, trace, start, name)
    axes = node.attrs.get("scan_input_axes") or [0] * (len(node.inputs) - states)
    for whole, name, axis in zip(node.inputs[states:], node.outputs[states:], axes, strict=True):
        x = _known(node, trace, whole, name)
        if x is None:
            continue
        trace.materialise(x, node)
        axis %= x.rank
        trace.repeats[owner_of(node.name)] = trace.shape(whole)[axis]
        x = trace.release(x, [axis], f"{describe(node)} goes along the axis")
        trace.put(name, replace(x, axes=(*x.axes[:axis], *x.axes[axis + 1 :]), view=None))


@rule(f"{BODIES}::Loop", f"{BODIES}::Scan", spreads=True, orderless=True, any_rank=True)
def leave(node: Node, trace: Trace) -> None:
    """What is carried at the end, and what every trip gave, one behind the other."""
    scanned = int(node.attrs.get("num_scan_inputs", 0))
    first, conditions = (2, 1) if node.op == "Loop" else (0, 0)
    own = len(node.inputs) - len(node.outputs) - conditions
    starts = node.inputs[first : own - scanned]
    given = node.inputs[own + conditions :]
    for start, end, name in zip(starts, given, node.outputs, strict=False):
        if name or end:
            _tie_round(node, trace, start, end, name)
    outputs = node.outputs[len(starts) :]
    axes = node.attrs.get("scan_output_axes") or [0] * len(outputs)
    for end, name, axis in zip(given[len(starts) :], outputs, axes, strict=True):
        x = _known(node, trace, end, name)
        if x is None or not name:
            continue
        trace.materialise(x, node)
        if x.constant:
            trace.use(x, Role.PRODUCER)
        trace.put(name, _stacked(x, axis % (x.rank + 1), trace.shape(name)[axis]))


def _known(node: Node, trace: Trace, source: str, target: str) -> Layout | None:
    """Return the layout of `source` if its rank and that of `target`, which is made of it, are known.

    Else what it carries is frozen, and None returned.
    """
    layout = trace.layout(source)
    if layout is not None and (not target or trace.graph.shapes.get(target) is not None):
        return layout
    reason = f"{describe(node)} works on a tensor whose rank is not known"
    _freeze(node, trace, layout, reason)
    if target:
        trace.causes[target] = reason
        trace.put(target, trace.shaped(target))
    return None


def _freeze(node: Node, trace: Trace, layout: Layout | None, reason: str) -> None:
    if layout is not None:
        trace.materialise(layout, node)
        trace.use(layout, Role.PRODUCER)  # so that its dimensions are shown, with the reason
        trace.freeze(layout.blocks, reason)


def _carry(node: Node, trace: Trace, start: str, name: str) -> None:
    """Put the layout of what is carried, in front of a trip."""
    x = _known(node, trace, start, name)
    if x is None:
        return
    trace.materialise(x, node)
    before, during = trace.shape(start), trace.shape(name)
    moving = [axis for axis in range(x.rank) if before[axis] != during[axis]]
    x = trace.release(x, moving, f"{describe(node)} carries an axis that changes its size")
    for axis in moving:
        x = free_axis(x, axis, during[axis])
    blocks = tuple(replace(block, source=()) for block in x.blocks)
    trace.put(name, Layout(x.axes, x.sizes, blocks))


def _tie_round(node: Node, trace: Trace, start: str, end: str, name: str) -> None:
    """Tie what is carried at the start to what a trip makes of it; put the layout of what is left in the end."""
    aligned = _meet(node, trace, name, (start, end), "carries an axis that changes its size")
    if aligned is None:
        return
    begun = trace.layout(start)
    supposed = begun is not None and not all(np.isnan(block.state).all() for block in begun.blocks)
    blocks = []
    for group in aligned.joined:
        before, after = aligned.states(group)
        same = before == after
        if supposed:
            trace.freeze(
                group.first.labels[~same],
                f"what {describe(node)} carries does not stay what it starts as when its group is zero",
                apart=False,
            )
        state = finite_or_poison([before, after], np.where(same, before, np.nan))
        blocks.append(Block(group.keys, group.first.labels, state))
    _put(trace, name, aligned, blocks, (start, end), constant=False)


def _meet(node: Node, trace: Trace, name: str, sources: tuple[str, str], differing: str) -> Aligned | None:
    """Tie two tensors of which output `name` is the one or the other; None where that cannot be, all frozen then.

    differing: what a refusal says of axes that have not the same size in both.
    """
    found = [trace.layout(source) for source in sources]
    one, other = found
    shape = trace.graph.shapes.get(name) if name else trace.graph.shapes.get(sources[0])
    if one is None or other is None or shape is None or not one.rank == other.rank == len(shape):
        reason = f"{describe(node)} works on a tensor whose rank is not known"
        if one is not None and other is not None and one.rank != other.rank:
            reason = f"{describe(node)} gives tensors of different ranks"
        for layout in found:
            _freeze(node, trace, layout, reason)
        if name:
            trace.causes[name] = reason
            trace.put(name, trace.shaped(name))
        return None
    before, after = (trace.shape(source) for source in sources)
    unlike = [axis for axis in range(one.rank) if before[axis] != after[axis]]
    layouts = []
    for layout in (one, other):
        trace.materialise(layout, node)
        layout = trace.release(layout, unlike, f"{describe(node)} {differing}")
        for axis in unlike:
            layout = free_axis(layout, axis, shape[axis])
        layouts.append(layout)
    aligned = align(trace, replace(node, inputs=sources), layouts)
    if not aligned.layout.constant or node.op != "If":
        for layout in aligned.operands:
            if layout.constant:
                trace.use(layout, Role.PRODUCER)
    return aligned


def _put(
    trace: Trace,
    name: str,
    aligned: Aligned,
    blocks: Sequence[Block],
    sources: tuple[str, str],
    *,
    constant: bool,
) -> None:
    """Put the layout of an output of a body's node."""
    if not name:
        return
    cause = next((cause for source in sources if (cause := trace.cause(source))), "")
    if not blocks and cause:
        trace.causes.setdefault(name, cause)
    trace.put(name, replace(with_blocks(aligned.layout, blocks), constant=constant))


def _stacked(x: Layout, axis: int, size: Size) -> Layout:
    """Return the layout of one tensor for every trip, along a new axis."""
    key = fresh_key()
    keys = () if size == 1 else (key,)
    blocks = tuple(replace(block, source=()) for block in x.blocks)
    return Layout((*x.axes[:axis], keys, *x.axes[axis:]), {**x.sizes, key: size}, blocks)

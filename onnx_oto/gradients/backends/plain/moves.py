"""Gradients of what only moves, repeats or leaves out elements."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node

_BEHIND = np.iinfo(np.int64).max
"""The end of an axis, in a Slice."""


@gradient("Identity", any_size=True)
def identity(node: Back, dy: str) -> Parts:
    """y = x: dx = dy."""
    return [dy]


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze", any_size=True)
def reshape(node: Back, dy: str) -> Parts:
    """y = x in another shape: dx = dy in the shape of x."""
    x, y = node.inputs[0], node.outputs[0]
    same = node.knows(x, y) and node.shape(x) == node.shape(y)
    return [dy if same else node.reshape_as(dy, x)]


@gradient("Transpose", any_size=True)
def transpose(node: Back, dy: str) -> Parts:
    """y = x with its axes in the order perm: dx = dy with them in the order that undoes it."""
    rank = node.rank(node.inputs[0])
    perm = node.attrs.get("perm", list(range(rank))[::-1])
    return [node.transpose(dy, [perm.index(axis) for axis in range(rank)])]


@gradient("Concat", any_size=True)
def concat(node: Back, dy: str) -> Parts:
    """y = a, b, ... along an axis: da = the places of a in dy."""
    axis = node.attrs["axis"] % node.rank(node.outputs[0])
    if not node.knows(*node.inputs):
        lengths = [node.cut(node.sizes(each), [0], [axis], [axis + 1], [1]) for each in node.inputs]
        return node.emit_many("Split", [dy, _joined(node, lengths)], len(lengths), axis=axis)
    ends = np.cumsum([node.shape(each)[axis] for each in node.inputs]).tolist()
    starts = [0, *ends[:-1]]
    return [node.cut(dy, [axis], [start], [end], [1]) for start, end in zip(starts, ends, strict=True)]


def _joined(node: Back, parts: Sequence[str]) -> str:
    return node.emit("Concat", *parts, axis=0) if len(parts) > 1 else parts[0]


@gradient("Split", any_size=True)
def split(node: Back, dy: str) -> Parts:
    """a, b, ... = parts of x along an axis: dx = da, db, ..., zeros where nothing arrived."""
    axis = node.attrs.get("axis", 0) % node.rank(node.inputs[0])
    outputs = [(name, arrived) for name, arrived in zip(node.outputs, node.dys, strict=True)]
    parts = [arrived or node.zeros(name) for name, arrived in outputs]
    return [node.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]]


@gradient("Slice", any_size=True)
def cut(node: Back, dy: str) -> Parts:
    """y = x at equally spaced places of some axes: dx = dy there, 0 elsewhere."""
    x, y = node.inputs[0], node.outputs[0]
    if not node.knows(x, y):
        return [_scattered(node, dy)]
    shape, made = node.shape(x), list(node.shape(y))
    rank = len(shape)
    settings = [node.constant(position) for position in range(1, 5)]
    if any(value is None for value, name in zip(settings, node.inputs[1:], strict=False) if name):
        return [_scattered(node, dy)]
    starts, _, axes, steps = (None if value is None else value.tolist() for value in settings)
    assert starts is not None
    for i, axis in enumerate(range(len(starts)) if axes is None else axes):
        at, size = axis % rank, shape[axis % rank]
        places = range(*slice(starts[i], None, steps[i] if steps else 1).indices(size))[: made[at]]
        if not made[at]:
            return [node.zeros(x)]
        dy = node.spread(dy, tuple(made), at, places, size, x)
        made[at] = size
    return [dy]


def _scattered(node: Back, dy: str) -> str:
    """Return zeros with dy at the places of the input that the node takes: it takes them of their numbers, too."""
    x = node.inputs[0]
    taken = node.reshape(node.emit(node.op, _numbers(node, x), *node.inputs[1:], **node.attrs), [-1])
    blank = node.blank(node.count(x), x)
    return node.reshape_as(node.emit("ScatterElements", blank, taken, node.reshape(dy, [-1]), axis=0), x)


def _numbers(node: Back, x: str) -> str:
    """Return the number of each element of a tensor of the forward graph, in its shape."""
    if node.knows(x):
        return node.value(np.arange(node.size(x)).reshape(node.shape(x)), np.int64)
    every = node.emit("Range", node.value(0, np.int64), node.emit("Size", x), node.value(1, np.int64))
    return node.reshape_as(every, x)


def _pads_otherwise(node: Node, facts: Facts) -> str | None:
    if node.attrs.get("mode", "constant") != "constant":
        return "the gradient knows constant pads only"
    if node.input(1) not in facts.constants or (node.input(3) and node.input(3) not in facts.constants):
        return f"its pads {node.input(1)!r} are computed by the model: make them a constant"
    return "its pad value would have no gradient" if node.input(2) in facts.carried else None


@gradient("Pad", unless=_pads_otherwise, any_size=True)
def pad(node: Back, dy: str) -> Parts:
    """y = x with more, or fewer, places at the ends of axes: dx = dy with the opposite pads, zeros for what x lost."""
    x = node.inputs[0]
    rank, given, axes = node.rank(x), node.constant(1), node.constant(3)
    assert given is not None
    before, after = np.zeros(rank, int), np.zeros(rank, int)
    at = list(range(rank)) if axes is None else [axis % rank for axis in axes.tolist()]
    before[at], after[at] = given.reshape(2, -1)
    ends = np.where(after > 0, -after, _BEHIND)
    dy = node.cut(dy, range(rank), np.maximum(before, 0).tolist(), ends.tolist(), [1] * rank)
    lost = np.maximum(np.concatenate([-before, -after]), 0).tolist()
    return [node.emit("Pad", dy, node.ints(lost), node.number(0.0, x)) if any(lost) else dy]


@gradient("Expand", any_size=True)
def expand(node: Back, dy: str) -> Parts:
    """y = x broadcast: dx = dy summed over what was."""
    return [node.fit(dy, node.outputs[0], node.inputs[0])]


@gradient("Tile", any_size=True)
def tile(node: Back, dy: str) -> Parts:
    """y = x again and again: dx = the sum of its copies."""
    x, y = node.inputs[0], node.outputs[0]
    if not node.knows(x, y):
        pairs = [node.reshape(each, [-1, 1]) for each in (node.inputs[1], node.sizes(x))]
        split = node.emit("Reshape", dy, node.reshape(node.emit("Concat", *pairs, axis=1), [-1]), allowzero=1)
        return [node.sum(split, range(0, 2 * node.rank(x), 2))]
    shape, made = node.shape(x), node.shape(y)
    apart = [size for n, m in zip(shape, made, strict=True) for size in (m // n if n else 0, n)]
    return [node.sum(node.reshape(dy, apart), range(0, len(apart), 2)) if shape else dy]


@gradient("Trilu", any_size=True)
def triangle(node: Back, dy: str) -> Parts:
    """y = the upper or lower triangle of x: dx = that of dy."""
    return [node.emit("Trilu", dy, *node.inputs[1:], upper=node.attrs.get("upper", 1))]


@gradient("Gather", any_size=True)
def gather(node: Back, dy: str) -> Parts:
    """y = x at the indices i of an axis: dx[i] += dy."""
    x, index = node.inputs
    rank, picked = node.rank(x), node.rank(index)
    axis = node.attrs.get("axis", 0) % rank
    fixed = node.constant(1)
    if fixed is not None and node.knows(x):
        shape = node.shape(x)
        places = _spaced(fixed.reshape(-1) % shape[axis])
        if places is not None:
            flat = (*shape[:axis], len(places), *shape[axis + 1 :])
            return [node.spread(node.reshape(dy, flat), flat, axis, places, shape[axis], x)]
    made = rank - 1 + picked
    dy = node.transpose(dy, [*range(axis, axis + picked), *range(axis), *range(axis + picked, made)])
    order = [axis, *range(axis), *range(axis + 1, rank)]
    total = node.emit("ScatterND", _blank_by(node, x, order), _rows(node, index), dy, reduction="add")
    return [node.transpose(total, [*range(1, axis + 1), 0, *range(axis + 1, rank)])]


def _blank_by(node: Back, x: str, order: Sequence[int]) -> str:
    """Return zeros of the shape of a tensor of the forward graph with its axes in another order."""
    if node.knows(x):
        return node.blank(node.ints(node.shape(x)[axis] for axis in order), x)
    return node.blank(node.emit("Gather", node.sizes(x), node.ints(order)), x)


def _rows(node: Back, index: str) -> str:
    """Return indices as int64 with one more axis of size 1."""
    whole = index if node.dtype(index) == np.int64 else node.emit("Cast", index, to=7)
    return node.emit("Unsqueeze", whole, axes=[node.rank(index)])


def _spaced(index: np.ndarray) -> range | None:
    """Return places that are equally spaced and not the same as a range, None for others."""
    if not len(index):
        return None
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    first = int(index[0])
    found = range(first, first + step * len(index), step) if step else None
    return found if found is not None and list(found) == index.tolist() else None


@gradient("GatherElements", any_size=True)
def gather_elements(node: Back, dy: str) -> Parts:
    """y[p] = x[p with i[p] at an axis]: dx there += dy[p]."""
    x, index = node.inputs
    axis = node.attrs.get("axis", 0) % node.rank(x)
    how = {} if node.knows(index) and node.shape(index)[axis] == 1 else {"reduction": "add"}
    return [node.emit("ScatterElements", node.zeros(x), index, dy, axis=axis, **how)]


def _batches_are_open(node: Node, facts: Facts) -> str | None:
    if not node.attrs.get("batch_dims", 0) or node.input(1) in facts.shapes:
        return None
    return f"the shape of {node.input(1)!r} is not known before the run, and it has batches"


@gradient("GatherND", unless=_batches_are_open, any_size=True)
def gather_nd(node: Back, dy: str) -> Parts:
    """y[p] = x[i[p]]: dx[i[p]] += dy[p]; batches are written out as indices."""
    x, index = node.inputs
    batch = node.attrs.get("batch_dims", 0)
    if batch:
        lead = node.shape(index)[:-1]
        own = np.moveaxis(np.indices(lead)[:batch], 0, -1)
        index = node.emit("Concat", node.value(own, np.int64), index, axis=-1)
    return [node.emit("ScatterND", node.zeros(x), index, dy, reduction="add")]


def _reduces(node: Node, facts: Facts) -> str | None:
    reduction = node.attrs.get("reduction", "none")
    return None if reduction == "none" else f"the gradient ignores its reduction {reduction!r}"


@gradient("ScatterND", unless=_reduces, any_size=True)
def scatter_nd(node: Back, dy: str) -> Parts:
    """y = x but for y[i] = u: dx = dy but for 0 there, du = dy[i]."""
    _, index, updates = node.inputs
    return [
        node.emit("ScatterND", dy, index, node.zeros(updates)),
        None,
        node.emit("GatherND", dy, index),
    ]


@gradient("ScatterElements", unless=_reduces, any_size=True)
def scatter_elements(node: Back, dy: str) -> Parts:
    """y = x but for y[p with i[p] at an axis] = u[p]: dx = dy but for 0 there, du = dy there."""
    _, index, updates = node.inputs
    axis = node.attrs.get("axis", 0)
    return [
        node.emit("ScatterElements", dy, index, node.zeros(updates), axis=axis),
        None,
        node.emit("GatherElements", dy, index, axis=axis),
    ]


@gradient("TopK", outputs=2, any_size=True)
def top(node: Back, dy: str) -> Parts:
    """y, i = some extremes of x along an axis: dx = dy at i, 0 elsewhere."""
    x, axis = node.inputs[0], node.attrs.get("axis", -1)
    return [node.emit("ScatterElements", node.zeros(x), node.outputs[1], dy, axis=axis), None]

"""Gradients of what only moves, repeats or leaves out elements."""

from __future__ import annotations

import numpy as np

from onnx_oto.gradients.backends.plain.back import Back
from onnx_oto.gradients.backends.plain.table import Parts, gradient
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.model.graph.node import Node


@gradient("Identity")
def identity(node: Back, dy: str) -> Parts:
    """y = x: dx = dy."""
    return [dy]


@gradient("Reshape", "Flatten", "Squeeze", "Unsqueeze")
def reshape(node: Back, dy: str) -> Parts:
    """y = x in another shape: dx = dy in the shape of x."""
    x = node.inputs[0]
    return [dy if node.shape(x) == node.shape(node.outputs[0]) else node.reshape(dy, node.shape(x))]


@gradient("Transpose")
def transpose(node: Back, dy: str) -> Parts:
    """y = x with its axes in the order perm: dx = dy with them in the order that undoes it."""
    rank = len(node.shape(node.inputs[0]))
    perm = node.attrs.get("perm", list(range(rank))[::-1])
    return [node.transpose(dy, [perm.index(axis) for axis in range(rank)])]


@gradient("Concat")
def concat(node: Back, dy: str) -> Parts:
    """y = a, b, ... along an axis: da = the places of a in dy."""
    axis = node.attrs["axis"] % len(node.shape(node.outputs[0]))
    ends = np.cumsum([node.shape(each)[axis] for each in node.inputs]).tolist()
    starts = [0, *ends[:-1]]
    return [node.cut(dy, [axis], [start], [end], [1]) for start, end in zip(starts, ends, strict=True)]


@gradient("Split")
def split(node: Back, dy: str) -> Parts:
    """a, b, ... = parts of x along an axis: dx = da, db, ..., zeros where nothing arrived."""
    axis = node.attrs.get("axis", 0) % len(node.shape(node.inputs[0]))
    outputs = [(name, arrived) for name, arrived in zip(node.outputs, node.dys, strict=True)]
    parts = [arrived or node.zeros(name) for name, arrived in outputs]
    return [node.emit("Concat", *parts, axis=axis) if len(parts) > 1 else parts[0]]


@gradient("Slice")
def cut(node: Back, dy: str) -> Parts:
    """y = x at equally spaced places of some axes: dx = dy there, 0 elsewhere."""
    x, y = node.inputs[0], node.outputs[0]
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
    numbers = node.value(np.arange(node.size(x)).reshape(node.shape(x)), np.int64)
    taken = node.reshape(node.emit(node.op, numbers, *node.inputs[1:], **node.attrs), [-1])
    flat = node.emit("ScatterElements", node.blank([node.size(x)], x), taken, node.reshape(dy, [-1]), axis=0)
    return node.reshape(flat, node.shape(x))


def _pads_otherwise(node: Node, facts: Facts) -> str | None:
    if node.attrs.get("mode", "constant") != "constant":
        return "the gradient knows constant pads only"
    if node.input(1) not in facts.constants or (node.input(3) and node.input(3) not in facts.constants):
        return f"its pads {node.input(1)!r} are computed by the model: make them a constant"
    return "its pad value would have no gradient" if node.input(2) in facts.carried else None


@gradient("Pad", unless=_pads_otherwise)
def pad(node: Back, dy: str) -> Parts:
    """y = x with more, or fewer, places at the ends of axes: dx = dy with the opposite pads, zeros for what x lost."""
    x = node.inputs[0]
    shape, given, axes = node.shape(x), node.constant(1), node.constant(3)
    assert given is not None
    before, after = np.zeros(len(shape), int), np.zeros(len(shape), int)
    at = list(range(len(shape))) if axes is None else [axis % len(shape) for axis in axes.tolist()]
    before[at], after[at] = given.reshape(2, -1)
    starts, sizes = np.maximum(before, 0), np.array(node.shape(node.outputs[0]))
    dy = node.cut(
        dy, range(len(shape)), starts.tolist(), (sizes - np.maximum(after, 0)).tolist(), [1] * len(shape)
    )
    lost = np.maximum(np.concatenate([-before, -after]), 0).tolist()
    return [node.emit("Pad", dy, node.ints(lost), node.number(0.0, x)) if any(lost) else dy]


@gradient("Expand")
def expand(node: Back, dy: str) -> Parts:
    """y = x broadcast: dx = dy summed over what was."""
    return [node.fit(dy, node.shape(node.outputs[0]), node.inputs[0])]


@gradient("Tile")
def tile(node: Back, dy: str) -> Parts:
    """y = x again and again: dx = the sum of its copies."""
    shape, made = node.shape(node.inputs[0]), node.shape(node.outputs[0])
    apart = [size for n, m in zip(shape, made, strict=True) for size in (m // n if n else 0, n)]
    return [node.sum(node.reshape(dy, apart), range(0, len(apart), 2)) if shape else dy]


@gradient("Trilu")
def triangle(node: Back, dy: str) -> Parts:
    """y = the upper or lower triangle of x: dx = that of dy."""
    return [node.emit("Trilu", dy, *node.inputs[1:], upper=node.attrs.get("upper", 1))]


@gradient("Gather")
def gather(node: Back, dy: str) -> Parts:
    """y = x at the indices i of an axis: dx[i] += dy."""
    x, index = node.inputs
    shape, picked = node.shape(x), node.shape(index)
    axis, rank = node.attrs.get("axis", 0) % len(shape), len(picked)
    fixed = node.constant(1)
    places = None if fixed is None else _spaced(fixed.reshape(-1) % shape[axis])
    if places is not None:
        flat = (*shape[:axis], len(places), *shape[axis + 1 :])
        return [node.spread(node.reshape(dy, flat), flat, axis, places, shape[axis], x)]
    made = len(shape) - 1 + rank
    dy = node.transpose(dy, [*range(axis, axis + rank), *range(axis), *range(axis + rank, made)])
    front = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    total = node.emit("ScatterND", node.blank(front, x), _rows(node, index), dy, reduction="add")
    return [node.transpose(total, [*range(1, axis + 1), 0, *range(axis + 1, len(shape))])]


def _rows(node: Back, index: str) -> str:
    """Return indices as int64 with one more axis of size 1."""
    whole = index if node.dtype(index) == np.int64 else node.emit("Cast", index, to=7)
    return node.reshape(whole, (*node.shape(index), 1))


def _spaced(index: np.ndarray) -> range | None:
    """Return places that are equally spaced and not the same as a range, None for others."""
    if not len(index):
        return None
    step = int(index[1] - index[0]) if len(index) > 1 else 1
    first = int(index[0])
    found = range(first, first + step * len(index), step) if step else None
    return found if found is not None and list(found) == index.tolist() else None


@gradient("GatherElements")
def gather_elements(node: Back, dy: str) -> Parts:
    """y[p] = x[p with i[p] at an axis]: dx there += dy[p]."""
    x, index = node.inputs
    axis = node.attrs.get("axis", 0) % len(node.shape(x))
    how = {} if node.shape(index)[axis] == 1 else {"reduction": "add"}
    return [node.emit("ScatterElements", node.zeros(x), index, dy, axis=axis, **how)]


@gradient("GatherND")
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


@gradient("ScatterND", unless=_reduces)
def scatter_nd(node: Back, dy: str) -> Parts:
    """y = x but for y[i] = u: dx = dy but for 0 there, du = dy[i]."""
    _, index, updates = node.inputs
    return [
        node.emit("ScatterND", dy, index, node.zeros(updates)),
        None,
        node.emit("GatherND", dy, index),
    ]


@gradient("ScatterElements", unless=_reduces)
def scatter_elements(node: Back, dy: str) -> Parts:
    """y = x but for y[p with i[p] at an axis] = u[p]: dx = dy but for 0 there, du = dy there."""
    _, index, updates = node.inputs
    axis = node.attrs.get("axis", 0)
    return [
        node.emit("ScatterElements", dy, index, node.zeros(updates), axis=axis),
        None,
        node.emit("GatherElements", dy, index, axis=axis),
    ]


@gradient("TopK", outputs=2)
def top(node: Back, dy: str) -> Parts:
    """y, i = some extremes of x along an axis: dx = dy at i, 0 elsewhere."""
    x, axis = node.inputs[0], node.attrs.get("axis", -1)
    return [node.emit("ScatterElements", node.zeros(x), node.outputs[1], dy, axis=axis), None]

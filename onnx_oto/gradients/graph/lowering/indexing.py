"""Ops that only move elements: splits, slices, pads and scattering with constant indices."""

from __future__ import annotations

import numpy as np

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients.graph.lowering.lowerings import Outcome, Site, register


@register("Split")
def split(node: Site) -> Outcome:
    """Slices, for the outputs that are read."""
    used = [bool(name) and name in node.draft.read for name in node.outputs]
    x = node.inputs[0]
    shape = node.shape(x)
    axis = node.attribute("axis", 0) % len(shape)
    given = node.constant(1, "sizes")
    count = len(node.outputs)
    share = -(-shape[axis] // count)
    sizes = [share] * (count - 1) + [shape[axis] - share * (count - 1)] if given is None else given.tolist()
    ends = np.cumsum(sizes).tolist()
    starts = [end - size for end, size in zip(ends, sizes, strict=True)]
    axes = node.ints([axis])
    return [
        node.emit("Slice", x, node.ints([start]), node.ints([end]), axes) if wanted else ""
        for start, end, wanted in zip(starts, ends, used, strict=True)
    ]


@register("Slice")
def constant_slice(node: Site) -> Outcome:
    """Gather with constant indices along every axis that is cut."""
    x = node.inputs[0]
    starts, ends, axes = node.constant(1, "starts"), node.constant(2, "ends"), node.constant(3, "axes")
    shape = node.shape(x)
    if starts is None or ends is None:
        raise UnsupportedError("its starts and ends must be constants")
    steps = node.constant(4, "steps")
    steps = np.ones(len(starts), np.int64) if steps is None else steps
    order = range(len(starts)) if axes is None else axes.tolist()
    for start, end, axis, step in zip(starts.tolist(), ends.tolist(), order, steps.tolist(), strict=True):
        indices = _slice_indices(shape[axis], start, end, step)
        x = node.emit("Gather", x, node.ints(indices), axis=axis % len(shape))
    return x


def _slice_indices(size: int, start: int, end: int, step: int) -> list[int]:
    """Return the indices ONNX Slice picks; negative bounds count from the end, all are clamped."""
    low, high = (0, size) if step > 0 else (-1, size - 1)
    start, end = (bound + size if bound < 0 else bound for bound in (start, end))
    return list(range(min(max(start, low + (step < 0)), high), min(max(end, low), high), step))


@register("Pad")
def pad(node: Site) -> Outcome:
    """Constant pads as pads of all axes; reflect, edge and wrap by Gather."""
    x = node.inputs[0]
    shape = node.shape(x)
    pads, axes = node.constant(1, "pads"), node.constant(3, "axes")
    if pads is None:
        raise UnsupportedError("its pads must be a constant")
    if node.has_input(2) and node.carries(node.inputs[2]):
        raise UnsupportedError("its pad value is trained: add it by Where instead")
    places = list(range(len(shape))) if axes is None else [axis % len(shape) for axis in axes.tolist()]
    both = pads.reshape(2, len(places))
    mode = node.attribute("mode", "constant")
    if mode == "constant":
        if axes is None:
            return None
        full = np.zeros((2, len(shape)), np.int64)
        full[:, places] = both
        return node.emit("Pad", x, node.ints(full.ravel().tolist()), *node.inputs[2:3])
    for axis, (before, after) in zip(places, both.T.tolist(), strict=True):
        if before or after:
            indices = _pad_indices(shape[axis], before, after, mode)
            x = node.emit("Gather", x, node.ints(indices), axis=axis)
    return x if x != node.inputs[0] else node.emit("Identity", x)


def _pad_indices(size: int, before: int, after: int, mode: str) -> list[int]:
    """Return which elements a padded axis repeats.

    >>> _pad_indices(3, 2, 1, "reflect"), _pad_indices(3, 1, 1, "edge"), _pad_indices(3, 1, 1, "wrap")
    ([2, 1, 0, 1, 2, 1], [0, 0, 1, 2, 2], [2, 0, 1, 2, 0])
    """
    index = np.arange(-before, size + after)
    if mode == "edge":
        index = np.clip(index, 0, size - 1)
    elif mode == "wrap":
        index = index % size
    else:
        period = max(2 * (size - 1), 1)
        index = np.abs((index + size - 1) % period - (size - 1))
    result: list[int] = index.tolist()
    return result


@register("Transpose")
def transpose(node: Site) -> Outcome:
    """Its perm written out: the axes in reverse order."""
    if node.attribute("perm") is not None:
        return None
    return node.emit("Transpose", node.inputs[0], perm=list(reversed(range(len(node.shape(node.inputs[0]))))))


_REDUCTIONS = {"add": "Add", "mul": "Mul", "max": "Max", "min": "Min"}


@register("ScatterElements", "ScatterND")
def scatter(node: Site) -> Outcome:
    """What lies at the places is gathered and reduced with the updates first; no place may come twice."""
    op = _REDUCTIONS.get(node.attribute("reduction", "none"))
    if op is None:
        return None
    x, index, updates = node.inputs
    _refuse_repeated(node)
    axis = {"axis": node.attribute("axis", 0)} if node.op == "ScatterElements" else {}
    there = node.emit("GatherElements" if axis else "GatherND", x, index, **axis)
    return node.emit(node.op, x, index, node.emit(op, there, updates), **axis)


def _refuse_repeated(node: Site) -> None:
    """Raise UnsupportedError where a place is computed by the model, or named twice."""
    index, shape = node.constant(1, "indices"), node.shape(node.inputs[0])
    assert index is not None
    if node.op == "ScatterElements":
        axis = node.attribute("axis", 0) % len(shape)
        places = list(np.indices(index.shape))
        places[axis] = index % shape[axis]
        rows = np.stack(places, axis=-1).reshape(-1, len(shape))
    else:
        rows = index.reshape(-1, index.shape[-1]) % np.array(shape[: index.shape[-1]])
    if len(np.unique(rows, axis=0)) < len(rows):
        reduction = node.attribute("reduction")
        raise UnsupportedError(
            f"its indices name a place twice, which has no gradient with the reduction {reduction!r}: sum what belongs "
            "together by MatMul"
        )


@register("Compress")
def compress(node: Site) -> Outcome:
    """Gather at the places where a constant condition is true."""
    condition = node.constant(1, "condition")
    if condition is None:
        raise UnsupportedError("its condition must be a constant")
    axis = node.attribute("axis")
    x = node.inputs[0] if axis is not None else node.reshape(node.inputs[0], [-1])
    return node.emit("Gather", x, node.ints(np.flatnonzero(condition).tolist()), axis=axis or 0)


@register("ReverseSequence")
def reverse_sequence(node: Site) -> Outcome:
    """y[t, n] = x[length[n] - 1 - t, n] where t < length[n], else x[t, n]."""
    x = node.inputs[0]
    shape = node.shape(x)
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)
    places = [1] * len(shape)
    places[time] = shape[time]
    samples = [1] * len(shape)
    samples[batch] = shape[batch]
    t = node.value(np.arange(shape[time]).reshape(places), np.int64)
    length = node.reshape(node.inputs[1], samples)
    turned = node.emit("Sub", node.emit("Sub", length, node.value(1, np.int64)), t)
    index = node.emit("Where", node.emit("Less", t, length), turned, t)
    return node.emit("GatherElements", x, node.emit("Expand", index, node.ints(shape)), axis=time)


@register("OneHot")
def one_hot(node: Site) -> Outcome:
    """off + (on - off) h, h one where the class is, zero elsewhere; the classes carry no gradient."""
    indices, depth, values = node.inputs
    whole = node.emit("Cast", indices, to=7)  # INT64
    limits = node.number([0.0, 1.0], values)
    hot = node.emit("OneHot", whole, depth, limits, axis=node.attribute("axis", -1))
    off, on = node.emit_many("Split", [values, node.ints([1, 1])], 2, axis=0)
    return node.emit("Add", node.emit("Mul", hot, node.emit("Sub", on, off)), off)


@register("RandomNormalLike", "RandomUniformLike", "EyeLike")
def like(node: Site) -> Outcome:
    """The same, of zeros of that shape: these read a shape and no values."""
    x = node.inputs[0]
    nothing = node.number(np.zeros(node.shape(x)), x)
    return node.emit(node.op, nothing, **node.attributes)

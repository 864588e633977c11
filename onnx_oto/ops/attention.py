"""Attention operators: a lane is a whole head (with grouped queries: a key-value head and its queries).

When a head's values are zero, its output is zero, whatever its scores are. So a head needs no zero queries or keys.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from onnx_oto.lanes.contract import contract, zero_or_unknown
from onnx_oto.lanes.layout import FloatArray, IntArray, Layout, explicit, relabel_axis
from onnx_oto.lanes.repairs.cut import Cut
from onnx_oto.lanes.trace import Role, Trace, describe
from onnx_oto.model.graph.node import Node
from onnx_oto.ops.rules import NotCovered, given, inputs, rule
from onnx_oto.ops.sample import read_whole


@dataclass(frozen=True, eq=False)
class Heads:
    """Heads on one axis of a tensor: labels int64 [heads] and state [heads]."""

    labels: IntArray
    state: FloatArray


def heads_on(trace: Trace, node: Node, layout: Layout, axis: int, heads: int) -> Heads | None:
    """Return the heads on `axis`, each made one lane; None if the axis is free.

    The axis has [heads, positions per head] in C order. All other axes stay whole.
    """
    if any(len(b.keys) > 1 and not set(b.keys) <= set(layout.axes[axis]) for b in layout.on_axis(axis)):
        trace.materialise(layout, node)
    layout = _only(trace, node, layout, axis)
    if not layout.on_axis(axis):
        return None
    listed = explicit(layout, axis)
    if listed is None or listed[0].size % heads:
        raise NotCovered("reads heads from an axis that is composed of several")
    labels, state = listed[0].reshape(heads, -1), listed[1].reshape(heads, -1)
    trace.tie(labels[:, :1], labels)
    return Heads(labels[:, 0], np.where((state == state[:, :1]).all(1), state[:, 0], np.nan))


def _only(trace: Trace, node: Node, layout: Layout, axis: int) -> Layout:
    """Return `layout` with blocks that reach over from `axis` collapsed to it, and every other axis whole."""
    others = [other for other in range(layout.rank) if other != axis]
    return trace.release(layout, others, f"{describe(node)} needs every position of the axis")


def tie_heads(trace: Trace, node: Node, parts: Sequence[Heads | None]) -> None:
    """Tie the heads of several tensors; if one has them whole, they are frozen in all."""
    present = [p for p in parts if p is not None]
    for part in present[1:]:
        trace.tie(present[0].labels, part.labels)
    if len(present) < len(parts) and present:
        trace.freeze(present[0].labels, f"{describe(node)} reads heads that no parameter produces")


def spread_heads(trace: Trace, name: str, axis: int, heads: Heads | None) -> Layout | None:
    """Return the layout of tensor `name` with `heads` on `axis`, every head as many positions as fit."""
    shaped = trace.shaped(name)
    if shaped is None or heads is None:
        return shaped
    size = trace.shape(name)[axis]
    if not isinstance(size, int) or size % heads.labels.size:
        trace.freeze(heads.labels, f"'{name}' has an unknown number of positions per head")
        return shaped
    times = size // heads.labels.size
    trace.require(size)
    return relabel_axis(shaped, axis, np.repeat(heads.labels, times), np.repeat(heads.state, times))


def _of_unknown(heads: Heads | None) -> Heads | None:
    """Return heads of which nothing is known where they are removed."""
    return None if heads is None else Heads(heads.labels, np.full(heads.labels.size, np.nan))


def count_repair(
    trace: Trace, node: Node, heads: Heads | None, attributes: Sequence[tuple[str, int]]
) -> None:
    """Register that `attributes` (name, heads per lane) count the heads that stay."""
    if heads is None:
        return
    labels = heads.labels

    def repair(cut: Cut) -> None:
        kept = cut.kept(labels)
        if not kept.all():
            for name, times in attributes:
                cut.set_attribute(node.name, name, int(kept.sum()) * times)

    trace.repair(node, repair)


def attention_macs(
    trace: Trace, node: Node, query: Sequence[int | str | None], width: int, heads: Heads | None
) -> None:
    """Count scores and weighted sum: 2 x queries x keys x width, keys as many as queries; heads: that share `width`."""
    counted = () if heads is None else (heads.labels,)
    each = width if heads is None else width // heads.labels.size
    trace.count_macs(node, [2, query[0], query[-2], query[-2], each], repeated=counted)


def _put_values(node: Node, trace: Trace, out: int, axis: int, values: Heads | None) -> None:
    """Put the layout of the output: zero where the values are."""
    if values is None:
        trace.put(node.outputs[out], trace.shaped(node.outputs[out]))
        return
    state = zero_or_unknown(values.state)
    trace.put(node.outputs[out], spread_heads(trace, node.outputs[out], axis, Heads(values.labels, state)))


@rule("Attention", counts=True)
def attention(node: Node, trace: Trace) -> None:
    """softmax(scale Q K' + mask) V, inputs [B, L, heads * size] or [B, heads, L, size]; a head is one lane."""
    given_inputs = inputs(node, trace)
    q, k, v = (given(layout) for layout in given_inputs[:3])
    flat = q.rank == 3
    axis = 2 if flat else 1
    if flat:
        queries, keys = int(node.attrs["q_num_heads"]), int(node.attrs["kv_num_heads"])
    else:
        first, second = (trace.shape(name)[1] for name in node.inputs[:2])
        if not isinstance(first, int) or not isinstance(second, int):
            raise NotCovered("has an unknown number of heads")
        queries, keys = first, second
    parts = [heads_on(trace, node, x, axis, keys) for x in (q, k, v)]
    parts += [heads_on(trace, node, past, 1, keys) for past in given_inputs[4:6] if past is not None]
    mask = given_inputs[3] if len(given_inputs) > 3 else None
    if mask is not None and mask.rank >= 3 and mask.axes[mask.rank - 3]:
        parts.append(heads_on(trace, node, mask, mask.rank - 3, keys))
    else:
        read_whole(node, trace, [mask], "a mask")
    tie_heads(trace, node, parts)
    if flat:
        count_repair(trace, node, parts[0], [("q_num_heads", queries // keys), ("kv_num_heads", 1)])
    width = trace.shape(node.inputs[0])[-1]
    if isinstance(width, int):
        attention_macs(trace, node, trace.shape(node.inputs[0]), width * (1 if flat else queries), parts[0])
    _put_values(node, trace, 0, axis, parts[2])
    for index, name in enumerate(node.outputs[1:], 1):
        if name:
            present = parts[1] if index == 1 else parts[2] if index == 2 else parts[0]
            trace.put(name, spread_heads(trace, name, 1, _of_unknown(present)))


@rule("com.microsoft::MultiHeadAttention", counts=True)
def multi_head_attention(node: Node, trace: Trace) -> None:
    """The same with query, key, value [B, L, heads * size] and one bias for all three; a head is one lane."""
    given_inputs = inputs(node, trace)
    heads = int(node.attrs["num_heads"])
    if len(given_inputs) < 3 or any(x is None or x.rank != 3 for x in given_inputs[:3]):
        raise NotCovered("takes packed queries, keys and values")
    if any(x is not None for x in given_inputs[5:]):
        raise NotCovered("adds positions or keeps a past")
    parts = [heads_on(trace, node, given(x), 2, heads) for x in given_inputs[:3]]
    read_whole(node, trace, given_inputs[4:], "a mask")
    bias = given_inputs[3] if len(given_inputs) > 3 else None
    if bias is not None:
        parts = _biased(node, trace, bias, parts, heads)
    tie_heads(trace, node, parts)
    count_repair(trace, node, parts[0], [("num_heads", 1)])
    width = trace.shape(node.inputs[0])[-1]
    if isinstance(width, int):
        attention_macs(trace, node, trace.shape(node.inputs[0]), width, parts[0])
    _put_values(node, trace, 0, 2, parts[2])
    for name in node.outputs[1:]:
        if name:
            trace.put(name, spread_heads(trace, name, 1, _of_unknown(parts[1])))


def _biased(
    node: Node, trace: Trace, bias: Layout, parts: list[Heads | None], heads: int
) -> list[Heads | None]:
    """Tie the bias [3 * heads * size] to queries, keys and values; the values' zero needs its zero."""
    listed = explicit(bias, 0)
    widths = [trace.shape(name)[-1] for name in node.inputs[:3]]
    if listed is None or not all(isinstance(w, int) for w in widths) or not bias.constant:
        raise NotCovered("adds a bias that is no parameter")
    trace.use(bias, Role.PRODUCER, weight=True)
    start, result = 0, []
    for part, width in zip(parts, widths, strict=True):
        rows = listed[0][start : start + int(width or 0)].reshape(heads, -1)
        start += int(width or 0)
        trace.tie(rows[:, :1], rows)
        if part is None:
            trace.freeze(rows, f"{describe(node)} reads heads that no parameter produces")
        else:
            trace.tie(rows[:, 0], part.labels)
        result.append(part)
    return result


@rule("com.microsoft::GroupQueryAttention", counts=True)
def group_query_attention(node: Node, trace: Trace) -> None:
    """Causal attention with fewer key-value heads than query heads; a key-value head with its queries is one lane."""
    given_inputs = inputs(node, trace)
    if len(given_inputs) < 3 or any(x is None or x.rank != 3 for x in given_inputs[:3]):
        raise NotCovered("takes packed queries, keys and values")
    queries, keys = int(node.attrs["num_heads"]), int(node.attrs["kv_num_heads"])
    parts = [heads_on(trace, node, given(x), 2, keys) for x in given_inputs[:3]]
    parts += [heads_on(trace, node, past, 1, keys) for past in given_inputs[3:5] if past is not None]
    read_whole(node, trace, given_inputs[5:], "lengths and angles")
    tie_heads(trace, node, parts)
    count_repair(trace, node, parts[0], [("num_heads", queries // keys), ("kv_num_heads", 1)])
    width = trace.shape(node.inputs[0])[-1]
    if isinstance(width, int):
        attention_macs(trace, node, trace.shape(node.inputs[0]), width, parts[0])
    _put_values(node, trace, 0, 2, parts[2])
    for part, name in zip(parts[1:3], node.outputs[1:3], strict=False):
        if name:  # behind a past, and rotated
            trace.put(name, spread_heads(trace, name, 1, _of_unknown(part)))


@rule("com.microsoft::Attention", counts=True)
def packed_attention(node: Node, trace: Trace) -> None:
    """Attention with its projection inside: x [B, L, I], weights [I, 3 * heads * size], bias; a head is one lane."""
    given_inputs = inputs(node, trace)
    x, weights = given(given_inputs[0]), given(given_inputs[1])
    bias = given_inputs[2] if len(given_inputs) > 2 else None
    heads = int(node.attrs["num_heads"])
    shape = trace.shape(node.inputs[1])
    if any(p is not None for p in given_inputs[4:]) or node.attrs.get("qkv_hidden_sizes"):
        raise NotCovered("keeps a past, adds positions or has projections of different widths")
    if not isinstance(shape[1], int) or not weights.on_axis(1) or not weights.constant:
        raise NotCovered("projects by weights that are no parameter")
    x = trace.release(x, [0, 1], f"{describe(node)} needs every position of the axis")
    read_whole(node, trace, given_inputs[3:], "a mask")
    projected = contract(trace, node, [(x, "bli"), (weights, "io")], "blo")
    labels = projected.on_axis(2)[0].labels.reshape(3 * heads, -1)
    trace.tie(labels[:, :1], labels)
    rows = labels[:, 0].reshape(3, heads)
    trace.tie(rows[0], rows[1])
    trace.tie(rows[0], rows[2])
    if bias is not None and bias.blocks:
        trace.use(bias, Role.PRODUCER, weight=True)
        trace.tie(bias.blocks[0].labels, labels.reshape(-1))
    values = Heads(rows[2], np.zeros(heads))
    count_repair(trace, node, values, [("num_heads", 1)])
    attention_macs(trace, node, trace.shape(node.inputs[0]), labels.size // 3, values)
    _put_values(node, trace, 0, 2, values)
    for name in node.outputs[1:]:
        if name:
            trace.put(name, trace.shaped(name))
            trace.freeze(values.labels, f"{describe(node)} also gives its keys and values out")


@rule("RotaryEmbedding", "com.microsoft::RotaryEmbedding")
def rotary_embedding(node: Node, trace: Trace) -> None:
    """Pairs of positions of every head rotated: zero stays zero, a head is one lane."""
    source, *tables = inputs(node, trace)
    x = given(source)
    read_whole(node, trace, tables, "angles")
    shape = trace.shape(node.inputs[0])
    axis = 2 if x.rank == 3 else 1
    cache = trace.shape(node.inputs[2 if node.domain else 1])[-1]
    heads = int(node.attrs.get("num_heads", 0))
    if x.rank == 3 and not heads:
        if not isinstance(cache, int) or not isinstance(shape[2], int):
            raise NotCovered("has an unknown head size")
        heads = shape[2] // (2 * cache)
    elif x.rank == 4:
        if not isinstance(shape[1], int):
            raise NotCovered("has an unknown number of heads")
        heads = shape[1]
    part = heads_on(trace, node, x, axis, heads)
    if node.attrs.get("num_heads"):
        count_repair(trace, node, part, [("num_heads", 1)])
    _put_values(node, trace, 0, axis, part)

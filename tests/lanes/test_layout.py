"""The algebra of layouts, against numpy on an array that holds the label of every element."""

from __future__ import annotations

from dataclasses import fields
from typing import Final, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.lanes.layout import (
    Block,
    Layout,
    changed,
    explicit,
    free,
    fresh_key,
    fuse,
    permute,
    product,
    relabel_axis,
    rename,
    split,
    thin,
    without_axes,
)
from onnx_oto.model.graph.node import Node

Labels = npt.NDArray[np.int64]


def labelled(*sizes: int) -> Layout:
    """Return a layout in which every axis but those of size 1 has labels of its own."""
    layout, start = free(sizes), 0
    blocks = []
    for axis, size in enumerate(sizes):
        if size > 1:
            labels = np.arange(start, start + size)
            blocks.append(Block(layout.axes[axis], labels, labels.astype(float)))
            start += size
    return Layout(layout.axes, layout.sizes, tuple(blocks))


def spread(layout: Layout, block: int) -> Labels:
    """Return the label of one block at every element: int64, shaped as the tensor."""
    keys = [k for axis in layout.axes for k in axis]
    it = layout.blocks[block]
    order = [it.keys.index(k) for k in keys if k in it.keys]
    wide = [int(layout.sizes[k] or 0) if k in it.keys else 1 for k in keys]
    full = [int(layout.sizes[k] or 0) for k in keys]
    shape = [layout.length(axis) or 1 for axis in range(layout.rank)]
    return np.broadcast_to(it.labels.transpose(order).reshape(wide), full).reshape(shape)


def test_product_of_an_unknown_size_is_unknown() -> None:
    assert product([2, 3]) == 6
    assert product([]) == 1
    assert product([2, "N"]) is None
    assert product([None]) is None


def test_axes_of_size_one_have_no_factor() -> None:
    layout = free((1, "N", 4))
    assert layout.axes[0] == ()
    assert [layout.length(axis) for axis in range(3)] == [1, None, 4]
    assert not layout.blocks


def test_split_and_fuse_are_inverse() -> None:
    layout = labelled(12)
    parts = split(layout, layout.axes[0][0], 3, 4)
    assert parts.blocks[0].labels.tolist() == np.arange(12).reshape(3, 4).tolist()
    assert len(parts.axes[0]) == 2
    again = fuse(parts)
    assert again.blocks[0].labels.tolist() == list(range(12))
    assert len(again.axes[0]) == 1


def test_fuse_follows_the_order_on_the_axis() -> None:
    layout = labelled(6)
    parts = split(layout, layout.axes[0][0], 2, 3)
    swapped = Layout((parts.axes[0][::-1],), parts.sizes, parts.blocks)
    assert fuse(swapped).blocks[0].labels.tolist() == [0, 3, 1, 4, 2, 5]


def test_fuse_leaves_factors_of_different_blocks_apart() -> None:
    layout = labelled(2, 3)
    flat = Layout((layout.axes[0] + layout.axes[1],), layout.sizes, layout.blocks)
    assert fuse(flat).axes == flat.axes


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.data())
def test_split_permute_fuse_is_a_transposed_reshape(data: st.DataObject) -> None:
    a, b, c = (data.draw(st.integers(2, 4)) for _ in range(3))
    layout = labelled(a * b, c)
    expected = [spread(layout, i).reshape(a, b, c) for i in range(2)]
    layout = split(layout, layout.axes[0][0], a, b)
    keys = layout.axes[0]
    layout = Layout(((keys[0],), (keys[1],), layout.axes[1]), layout.sizes, layout.blocks)
    order = data.draw(st.permutations(range(3)))
    layout = permute(layout, order)
    for i in range(2):
        np.testing.assert_array_equal(spread(layout, i), expected[i].transpose(order))
    merged = Layout((layout.axes[0] + layout.axes[1], layout.axes[2]), layout.sizes, layout.blocks)
    fused = fuse(merged)
    for i in range(2):
        target = expected[i].transpose(order)
        np.testing.assert_array_equal(spread(fused, i), target.reshape(-1, target.shape[2]))


def test_explicit_lists_every_position() -> None:
    layout = labelled(2, 3)
    flat = Layout((layout.axes[0] + layout.axes[1],), layout.sizes, layout.blocks[:1])
    listed = explicit(flat, 0)
    assert listed is not None
    assert listed[0].tolist() == [0, 0, 0, 1, 1, 1]
    assert listed[1].tolist() == [0, 0, 0, 1, 1, 1]


def test_explicit_of_a_free_axis_has_label_minus_one() -> None:
    listed = explicit(free((3,)), 0)
    assert listed is not None
    assert listed[0].tolist() == [-1, -1, -1]
    assert np.isnan(listed[1]).all()


@pytest.mark.parametrize("case", ["unknown size", "two blocks", "joint block"])
def test_explicit_refuses_what_one_axis_cannot_say(case: str) -> None:
    if case == "unknown size":
        layout = free(("N",))
    elif case == "two blocks":
        parts = labelled(2, 3)
        layout = Layout((parts.axes[0] + parts.axes[1],), parts.sizes, parts.blocks)
    else:
        parts = split(labelled(6), labelled(6).axes[0][0], 2, 3)
        whole = labelled(6)
        parts = split(whole, whole.axes[0][0], 2, 3)
        layout = Layout(((parts.axes[0][0],), (parts.axes[0][1],)), parts.sizes, parts.blocks)
    assert explicit(layout, 0) is None


def test_relabel_axis_keeps_the_parameters_it_came_from() -> None:
    key = fresh_key()
    layout = Layout(((key,),), {key: 2}, (Block((key,), np.arange(2), np.zeros(2), (("w", 0),)),))
    result = relabel_axis(layout, 0, np.array([7, 8, 9]), np.zeros(3), (("v", 1),))
    assert set(result.blocks[0].source) == {("w", 0), ("v", 1)}
    assert result.length(0) == 3


def test_relabel_axis_to_one_position_leaves_no_factor() -> None:
    layout = relabel_axis(labelled(4, 3), 0, np.array([2]), np.zeros(1))
    assert layout.axes[0] == ()
    assert len(layout.blocks) == 1


def test_rename_reaches_axes_sizes_and_blocks() -> None:
    layout = labelled(2, 3)
    names = {layout.axes[0][0]: -1, layout.axes[1][0]: -2}
    result = rename(layout, names, {-1: 2, -2: 3}, 3)
    assert result.axes == ((), (-1,), (-2,))
    assert result.length(1) == 2
    assert result.block(-1) is result.blocks[0]


def test_type_checkers_let_nobody_change_blocks_layouts_and_nodes() -> None:
    for kind in (Block, Layout, Node):
        hints = get_type_hints(kind)
        assert [field.name for field in fields(kind) if get_origin(hints[field.name]) is not Final] == []


def test_without_axes_drops_them_or_makes_them_one() -> None:
    layout = free((2, 3, 4))
    assert without_axes(layout, [1]).axes == (layout.axes[0], layout.axes[2])
    assert without_axes(layout, [1], keep_dims=True).axes == (layout.axes[0], (), layout.axes[2])


def test_a_layout_that_is_changed_knows_its_own_blocks() -> None:
    old = Layout(((0,), (1,)), {0: 2, 1: 3}, (Block((0,), np.arange(2), thin(0.0, 2)),))
    assert old.on_axis(0) == old.blocks
    turned = changed(old, axes=((1,), (0,)))
    assert (turned.on_axis(0), turned.on_axis(1)) == ((), old.blocks)
    block = Block((1,), np.arange(3), thin(0.0, 3))
    other = changed(old, blocks=(block,))
    assert (other.on_axis(0), other.on_axis(1)) == ((), (block,))
    assert (old.on_axis(0), other.sizes, other.constant) == (old.blocks, old.sizes, old.constant)

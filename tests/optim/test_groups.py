"""Sums and edits over groups against plain loops."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.errors import OtoError
from onnx_oto.optim import groups as module
from onnx_oto.optim.groups import GroupIndex, Stretch


def members(index: GroupIndex, group: int) -> np.ndarray:
    """Return the flat positions of a group, one by one: the definition of a block."""
    found = []
    for block in index.blocks:
        for o in range(block.outer):
            for i in range(block.size):
                start = block.offset + (o * block.size + i) * block.inner
                found += list(range(start, start + block.inner)) if block.groups[i] == group else []
    return np.array(found, np.int64)


@st.composite
def indices(draw: st.DrawFn) -> tuple[GroupIndex, int]:
    """Return a random index and the length of the flat buffer."""
    count = draw(st.integers(1, 5))
    at = draw(st.integers(0, 3))
    blocks = []
    for _ in range(draw(st.integers(0, 4))):
        outer, size, inner = draw(st.integers(1, 4)), draw(st.integers(1, 6)), draw(st.integers(1, 5))
        labels = draw(st.lists(st.integers(-1, count - 1), min_size=size, max_size=size))
        blocks.append(Stretch(at, outer, size, inner, np.array(labels, np.int32)))
        at = blocks[-1].stop + draw(st.integers(0, 3))
    return GroupIndex(tuple(blocks), count, draw(st.integers(1, 3))), at


@settings(deadline=None)
@given(indices(), st.integers(0, 2**32 - 1), st.sampled_from([4, 7, 1 << 16]))
def test_every_operation_equals_the_loop(case: tuple[GroupIndex, int], seed: int, piece: int) -> None:
    """With small pieces every way of cutting a block occurs."""
    index, size = case
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal(size), rng.standard_normal(size)
    factor = rng.standard_normal(index.count)
    which = rng.random(index.count) < 0.5
    before = module.PIECE
    module.PIECE = piece
    try:
        got = index.moments(x, y)
        dots, norms = index.dots(x, y), index.square_norms(x)
        scaled, zeroed = x.copy(), x.copy()
        index.scale(scaled, factor)
        index.zero(zeroed, which)
    finally:
        module.PIECE = before
    expected_scaled, expected_zeroed = x.copy(), x.copy()
    for group in range(index.count):
        at = members(index, group)
        assert index.sizes[group] == len(at)
        np.testing.assert_allclose(got.xx[group], x[at] @ x[at], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.xy[group], x[at] @ y[at], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(got.yy[group], y[at] @ y[at], rtol=1e-12, atol=1e-12)
        expected_scaled[at] *= factor[group]
        if which[group]:
            expected_zeroed[at] = 0.0
    np.testing.assert_array_equal(dots, got.xy)
    np.testing.assert_array_equal(norms, got.xx)
    np.testing.assert_array_equal(scaled, expected_scaled)
    np.testing.assert_array_equal(zeroed, expected_zeroed)


@settings(deadline=None)
@given(indices(), st.integers(0, 2**32 - 1))
def test_a_subset_keeps_the_numbers_and_forgets_the_rest(case: tuple[GroupIndex, int], seed: int) -> None:
    index, _ = case
    which = np.random.default_rng(seed).random(index.count) < 0.5
    part = index.subset(which)
    assert part.count == index.count
    for group in range(index.count):
        expected = members(index, group) if which[group] else []
        np.testing.assert_array_equal(members(part, group), expected)
    assert all(np.any(block.groups >= 0) for block in part.blocks)


def test_zero_means_positive_zero_and_replaces_nan() -> None:
    index = GroupIndex((Stretch(0, 1, 2, 2, np.array([0, 1], np.int32)),), 2)
    x = np.array([-1.0, np.nan, -2.0, 3.0], np.float32)
    index.zero(x, np.array([True, False]))
    np.testing.assert_array_equal(x, np.array([0.0, 0.0, -2.0, 3.0], np.float32))
    assert not np.signbit(x[:2]).any()


def test_threads_do_not_change_a_bit() -> None:
    """Large enough for many pieces: 40 * 9 * 1000 float32 elements in rows, 300 x 300 in columns."""
    rng = np.random.default_rng(0)
    blocks = (
        Stretch(0, 1, 400, 1000, rng.integers(-1, 50, 400).astype(np.int32)),
        Stretch(400_000, 300, 300, 1, rng.integers(-1, 50, 300).astype(np.int32)),
    )
    x, y = rng.standard_normal((2, 490_000), np.float32)
    one, three = (GroupIndex(blocks, 50, threads).moments(x, y) for threads in (1, 3))
    for a, b in zip(one, three, strict=True):
        np.testing.assert_array_equal(a, b)


def test_float32_sums_are_as_good_as_float32_allows() -> None:
    """A group of 3 * 4608 elements, the largest filter of a ResNet-18 and more: relative error below 1e-6."""
    x = np.random.default_rng(1).standard_normal(3 * 4608).astype(np.float32)
    index = GroupIndex((Stretch(0, 1, 3, 4608, np.zeros(3, np.int32)),), 1)
    np.testing.assert_allclose(index.square_norms(x)[0], np.sum(x.astype(np.float64) ** 2), rtol=1e-6)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([Stretch(0, 1, 2, 1, np.array([0], np.int32))], r"block 0: labels of shape \(1,\) for 2 indices"),
        ([Stretch(0, 1, 2, 1, np.array([0, 2], np.int32))], r"block 0: labels 0\.\.2, expected -1\.\.1"),
        ([Stretch(0, 1, 2, 1, np.array([-2, 0], np.int32))], r"block 0: labels -2\.\.0"),
        (
            [
                Stretch(1, 1, 2, 3, np.array([0, 1], np.int32)),
                Stretch(0, 1, 2, 1, np.array([0, 1], np.int32)),
            ],
            "blocks at 0 and 1 overlap",
        ),
    ],
)
def test_blocks_that_cannot_be_are_refused(blocks: list[Stretch], message: str) -> None:
    with pytest.raises(OtoError, match=message):
        GroupIndex(tuple(blocks), 2)

"""Scores of lanes from the weights."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import numpy_helper

from onnx_oto.model import normalise
from onnx_oto.zigs import analyse, scores, zero_dropped
from onnx_oto.zigs.groups import loaded_slices
from tests.contract.builder import build

from .models import chained


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    kind=st.sampled_from([np.float16, np.float32, np.float64]),
    data=st.data(),
)
def test_sums_of_squares_equal_the_plain_sum(shape, kind, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    weight = np.random.default_rng(0).normal(size=shape).astype(kind)
    others = tuple(i for i in range(len(shape)) if i != axis)
    expected = np.square(weight.astype(np.float64)).sum(others)
    np.testing.assert_allclose(scores.sums_of_squares(weight, axis), expected, rtol=1e-6)


@pytest.mark.parametrize("block", [1, 7, 64])
def test_sums_of_squares_over_many_blocks(block, monkeypatch):
    monkeypatch.setattr(scores, "_BLOCK", block)
    weight = np.random.default_rng(1).normal(size=(9, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        scores.sums_of_squares(weight, 1), np.square(weight.astype(np.float64)).sum((0, 2)), rtol=1e-6
    )


def test_large_half_precision_weights_do_not_overflow():
    weight = np.full((1, 100), 6e4, np.float16)
    assert scores.sums_of_squares(weight, 0) == pytest.approx(100 * float(weight[0, 0]) ** 2)


def test_groups_that_are_not_finite_stay_longest():
    analysis = chained(4)
    model = zero_dropped(analysis, np.zeros(analysis.lanes.count, bool))
    weight = next(t for t in model.graph.initializer if t.name == "w0")
    value = numpy_helper.to_array(weight).copy()
    value[0, 1], value[0, 2] = np.inf, np.nan
    weight.CopyFrom(numpy_helper.from_array(value, "w0"))
    odd = analyse(model)
    found = scores.score(odd, "magnitude")[odd.prunable[0].lanes]
    assert np.isfinite(found).all()
    assert set(np.argsort(found)[:2].tolist()) == {0, 3}


@pytest.mark.parametrize(("scale", "axes"), [([[2.0], [0.5]], "2,1"), ([[3.0]], "1,1")])
def test_bytes_count_for_what_they_stand_for(scale, axes):
    """Two channels of equal bytes, of which one has the smaller scale, or fewer bytes that are not zero."""
    model = build(
        f"""g (float[N,7] x) => (float[N,4] y) <int8[2,7] c, float[{axes}] s, float[2,4] w>
        {{ f = Cast<to=1>(c) v = Mul(f, s) h = Gemm<transB=1>(x, v) y = MatMul(h, w) }}"""
    )
    codes = np.full((2, 7), 9, np.int8)
    codes[1, 0] = 0
    values = {"c": codes, "s": np.float32(scale), "w": np.ones((2, 4), np.float32)}
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(values[tensor.name], tensor.name))
    analysis = analyse(normalise(model))
    weights = {piece.param: value for piece, value in loaded_slices(analysis)}
    np.testing.assert_allclose(weights["c"], codes * np.float32(scale))
    first, second = scores.score(analysis, "magnitude")[analysis.prunable[0].lanes]
    assert first > second

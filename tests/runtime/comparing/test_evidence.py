"""A comparison must have shown something, or it proves nothing."""

from __future__ import annotations

import numpy as np
import pytest
from contract.builder import build
from onnx import ModelProto, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.model import normalise
from onnx_oto.runtime.comparing import Feeding, compare
from onnx_oto.surgery import cut, kept_inside
from onnx_oto.zigs import analyse, choose, score, zero_dropped


def with_weight(model: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    """Return the model with another initializer."""
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return result


def scaled(model: ModelProto, name: str, factor: float) -> ModelProto:
    value = next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)
    return with_weight(model, name, value * factor)


SATURATED = """g (float[N,5] x) => (float[N,1] y) <float[5,4] w, float[4] b = {-1000000.0, 0.0, 0.0, 0.0},
int64[1] z = {0}, int64[1] one = {1}> { a = MatMul(x, w) c = Add(a, b) p = Softmax(c) y = Slice(p, z, one, one) }"""


def test_nothing_but_not_a_number_proves_nothing() -> None:
    model = build(
        "g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float nan = {0.0}> "
        "{ q = Div(nan, nan) a = Add(x, q) b = MatMul(a, w) y = Relu(b) }"
    )
    with pytest.raises(UnsupportedError, match=r"nothing is proved.*'y'.*--inputs"):
        compare(model, model)


def test_a_difference_behind_nan_is_seen_further_in() -> None:
    """The output is not a number whatever is fed: what it is computed from is compared."""
    text = """g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float[5,3] v, float big = {1e30}>
    { a = MatMul(x, w) b = MatMul(x, v) c = Mul(a, b) d = Mul(c, big) e = Mul(d, big) f = Sub(e, e) y = Mul(f, big) }"""
    full = build(text)
    verdict = compare(full, full)
    assert verdict.passed
    assert verdict.inner
    assert not compare(full, scaled(full, "w", 1.5)).passed


def test_an_output_that_never_varies_is_looked_through() -> None:
    full = build(SATURATED)
    verdict = compare(full, full)
    assert verdict.passed
    assert "a" in verdict.inner or "c" in verdict.inner
    assert not compare(full, scaled(full, "w", 1.01)).passed


@pytest.mark.parametrize(
    "tail",
    [
        "b = Log(a) y = MatMul(b, v)",
        "k = Mul(a, s) f = Floor(k) y = MatMul(f, v)",
        "k = Mul(a, l) e = Exp(k) y = MatMul(e, v)",
    ],
)
def test_values_are_sought_that_make_outputs_vary(tail: str) -> None:
    """Logarithms want positive values, what rounds down large ones, exponentials small ones."""
    text = f"""g (float[N,5] x) => (float[N,2] y) <float[5,2] v, float s = {{0.02}}, float l = {{90.0}}>
    {{ a = Identity(x) {tail} }}"""
    full = build(text)
    verdict = compare(full, full)
    assert verdict.passed
    assert not verdict.inner
    assert not compare(full, scaled(full, "v", 1.01)).passed


@pytest.mark.parametrize("tail", ["d = Min(c, s)", "d = Mul(c, s)", "d = Greater(c, s)"])
def test_a_difference_behind_a_constant_of_a_node_is_seen(tail: str) -> None:
    text = f"""g (float[N,5] x) => (float[N,3] y) <float[5,3] w>
    {{ s = Constant<value_float=1e-7>() c = MatMul(x, w) {tail} y = Cast<to=1>(d) }}"""
    full = build(text)
    assert compare(full, full).passed
    assert not compare(full, scaled(full, "w", 1.5)).passed


@pytest.mark.parametrize("tail", ["y = Mul(d, tiny)", "y = Add(d, large)"])
def test_outputs_that_vary_by_less_than_is_forgiven_prove_nothing(tail: str) -> None:
    """Two tensors are added in front of the output, so that it takes evidence to look further in."""
    text = f"""g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float[5,3] v,
    float tiny = {{1e-10}}, float large = {{1e9}}>
    {{ a = MatMul(x, w) b = MatMul(x, v) c = Add(a, b) e = Sin(x) f = MatMul(e, v) d = Mul(c, f) {tail} }}"""
    full = build(text)
    assert compare(full, full).passed
    assert not compare(full, scaled(full, "w", 1.5)).passed


def test_tensors_that_lost_channels_are_compared_where_outputs_show_nothing() -> None:
    """The output is the same for all inputs, and every tensor in front of it that varies has lost channels."""
    text = """g (float[N,5] x) => (float[N,3] y) <float[5,8] w1, float[8,6] w2, float[6,3] w3, float none = {0}>
    { a = MatMul(x, w1) b = Tanh(a) c = MatMul(b, w2) d = Relu(c) e = MatMul(d, w3) y = Mul(e, none) }"""
    analysis = analyse(normalise(build(text)))
    drop = choose(analysis, score(analysis, "random", 1), 0.5).drop
    result = cut(analysis, drop)
    full, inside = zero_dropped(analysis, drop), kept_inside(analysis, drop, result)
    verdict = compare(full, result.model, inside=inside)
    assert verdict.passed
    assert verdict.inner
    assert not compare(full, scaled(result.model, "w1", 1.5), inside=inside).passed


def test_a_difference_at_even_sizes_is_seen() -> None:
    text = """g (float[N,T,4] x) => (float[N,T,3] y) <float[4,3] w, int64[1] two = {2}, int64[1] odd = {%s}>
    { s = Shape<start=1,end=2>(x) r = Mod(s, two) e = Equal(r, odd) f = Cast<to=1>(e) a = MatMul(x, w)
      y = Add(a, f) }"""
    assert not compare(build(text % 0), build(text % 2)).passed
    assert not compare(build(text % 1), build(text % 2)).passed


def test_an_output_that_depends_on_nothing_does_not_matter() -> None:
    full = build(
        "g (float[N,5] x) => (float[N,3] y, float[2] anchors) <float[5,3] w, float[2] c> "
        "{ y = MatMul(x, w) anchors = Identity(c) }"
    )
    verdict = compare(full, full)
    assert verdict.passed
    assert verdict.sizes == ({"N": 3}, {"N": 1})


def test_given_inputs_that_give_nothing_finite_prove_nothing() -> None:
    model = build("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { a = Log(x) y = MatMul(a, w) }")
    minus = {"x": np.full((2, 5), -1, np.float32)}
    with pytest.raises(UnsupportedError, match="nothing is proved"):
        compare(model, model, inputs=[minus])
    assert compare(model, model, inputs=[{"x": np.ones((2, 5), np.float32)}]).passed


def test_examples_are_cropped_to_other_sizes() -> None:
    full = build(
        "g (float[N,T,4] x) => (float[N,4] y) <float[4,4] w> "
        "{ a = MatMul(x, w) y = ReduceMax<axes=[1], keepdims=0>(a) }"
    )
    example = {"x": np.random.default_rng(0).standard_normal((2, 40, 4)).astype(np.float32)}
    verdict = compare(full, full, feeding=Feeding(examples=[example]))
    assert verdict.passed
    assert verdict.sizes[0] == {"N": 2, "T": 40}
    assert {sizes["T"] for sizes in verdict.sizes} >= {1, 40}


def test_what_zeroing_did_to_the_original_is_said() -> None:
    original = build("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { y = MatMul(x, w) }")
    zeroed = scaled(original, "w", 0.0)
    value = numpy_helper.to_array(original.graph.initializer[0]).copy()
    value[:, 0] = 0
    zeroed = with_weight(original, "w", value)
    change = compare(zeroed, zeroed, original=original).original
    assert change is not None
    assert change.max_rel > 0.1
    assert compare(zeroed, zeroed).original is None


def test_where_zeroing_moves_no_output_a_tensor_that_it_moves_is_compared() -> None:
    text = """g (float[N,5] x) => (float[N,3] y) <float[5,4] w, float[4,3] v, float low = {-50.0}, float[5,3] u>
    { a = MatMul(x, w) b = Add(a, low) c = Relu(b) d = MatMul(c, v) e = MatMul(x, u) y = Add(d, e) }"""
    original = build(text)
    zeroed = scaled(original, "w", 0.0)
    verdict = compare(zeroed, zeroed, original=original)
    assert verdict.passed
    assert verdict.original is not None
    assert verdict.original.max_abs == 0
    assert set(verdict.inner) >= {"a"}

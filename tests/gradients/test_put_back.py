"""Norms put back behind layers: the same function before the first step, and again when they are folded in."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from onnx_oto.gradients.put_back import (
    EPSILON,
    FIXED,
    LAST,
    NORMED,
    SHARED,
    SINGLE,
    Layer,
    Pooled,
    calibrated,
    folded,
    layers_without_norm,
    measuring,
    with_norms,
)
from onnx_oto.model.graph.tensors import from_array
from onnx_oto.model.normal.form import normalise
from onnx_oto.model.view import graph
from onnx_oto.runtime.runner import runner
from tests.contract.builder import build

NOISE = 2e-5
"""Of the largest output: float32 sums in another order."""
ENDS = "r = Relu(a) y = Conv(r, wz) }"
ROWS = {
    "conv": f"g (float[N,3,6,5] x) => (float[N,2,p,q] y) <float[4,3,3,3] w, float[4] b, float[2,4,1,1] wz>"
    f" {{ a = Conv(x, w, b) {ENDS}",
    "strided, pads unlike": f"g (float[N,3,6,5] x) => (float[N,2,p,q] y) <float[4,3,3,2] w, float[4] b, "
    f"float[2,4,1,1] wz> {{ a = Conv<pads=[2,0,1,1], strides=[2,1], dilations=[1,2]>(x, w, b) {ENDS}",
    "grouped": f"g (float[N,4,6,5] x) => (float[N,2,p,q] y) <float[6,2,3,3] w, float[6] b, float[2,6,1,1] wz>"
    f" {{ a = Conv<group=2, pads=[1,1,1,1]>(x, w, b) {ENDS}",
    "depthwise": f"g (float[N,4,6,5] x) => (float[N,2,p,q] y) <float[8,1,3,3] w, float[8] b, float[2,8,1,1] wz>"
    f" {{ a = Conv<group=4>(x, w, b) {ENDS}",
    "conv of sequences": "g (float[N,3,9] x) => (float[N,2,p] y) <float[4,3,3] w, float[4] b, float[2,4,1] wz>"
    f' {{ a = Conv<auto_pad="SAME_UPPER">(x, w, b) {ENDS}',
    "conv of volumes": "g (float[N,2,4,4,3] x) => (float[N,2,p,q,s] y) <float[3,2,2,2,2] w, float[3] b, "
    f"float[2,3,1,1,1] wz> {{ a = Conv(x, w, b) {ENDS}",
    "transposed": f"g (float[N,3,4,5] x) => (float[N,2,p,q] y) <float[3,4,3,3] w, float[4] b, float[2,4,1,1] wz>"
    f" {{ a = ConvTranspose<strides=[2,2], pads=[1,0,0,1], output_padding=[1,0]>(x, w, b) {ENDS}",
    "transposed, grouped": "g (float[N,4,4,5] x) => (float[N,2,p,q] y) <float[4,3,3,3] w, float[6] b, "
    f"float[2,6,1,1] wz> {{ a = ConvTranspose<group=2, strides=[2,2]>(x, w, b) {ENDS}",
    "gemm": "g (float[N,5] x) => (float[N,2] y) <float[5,4] w, float[4] b, float[4,2] wz>"
    " { a = Gemm(x, w, b) r = Relu(a) y = MatMul(r, wz) }",
    "gemm, transposed and scaled": "g (float[N,5] x) => (float[N,2] y) <float[4,5] w, float[4] b, float[4,2] wz>"
    " { a = Gemm<transB=1, alpha=0.5>(x, w, b) r = Relu(a) y = MatMul(r, wz) }",
    "matmul and add": "g (float[N,5] x) => (float[N,2] y) <float[5,4] w, float[4] b, float[4,2] wz>"
    " { m = MatMul(x, w) a = Add(b, m) r = Relu(a) y = MatMul(r, wz) }",
    "residual": "g (float[N,4,6,5] x) => (float[N,2,p,q] y) <float[4,4,3,3] w, float[4] b, float[2,4,1,1] wz>"
    f" {{ c = Conv<pads=[1,1,1,1]>(x, w, b) a = Add(c, x) {ENDS}",
}


def opened(text: str, **options) -> tuple[onnx.ModelProto, tuple[Layer, ...]]:
    model = normalise(build(text, **options))
    return model, found(model)[0]


def found(model: onnx.ModelProto, trained=None, tied=()):
    every = {tensor.name for tensor in model.graph.initializer}
    return layers_without_norm(graph(model), every if trained is None else trained, tied)


def samples(model: onnx.ModelProto, count: int, seed: int = 0) -> np.ndarray:
    shape = [dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim][1:]
    return (np.random.default_rng(seed).standard_normal((count, *shape)) + 0.3).astype(np.float32)


def outputs(model: onnx.ModelProto, x: np.ndarray) -> list[np.ndarray]:
    return runner(model)({model.graph.input[0].name: x})


def weights(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def holding(model: onnx.ModelProto, values) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name in values:
            tensor.CopyFrom(from_array(values[tensor.name], tensor.name))
    return result


def calibration(model: onnx.ModelProto, layers, x: np.ndarray, size: int = 8):
    pooled, run = Pooled(), runner(measuring(model, layers))
    for start in range(0, len(x), size):
        pooled.add(run({model.graph.input[0].name: x[start : start + size]}))
    return calibrated(layers, weights(model), pooled)


def close(one: list[np.ndarray], other: list[np.ndarray]) -> None:
    for a, b in zip(one, other, strict=True):
        assert a.shape == b.shape
        assert np.isfinite(a).all()
        assert np.abs(a - b).max() <= NOISE * max(np.abs(a).max(), 1.0)


def moved(layers, values, seed: int = 1):
    """Return what training might make of parameters and statistics."""
    rng = np.random.default_rng(seed)
    statistics = {layer.variance for layer in layers}
    return {
        name: (
            value * rng.uniform(0.5, 2, value.shape)
            if name in statistics
            else value + 0.3 * rng.standard_normal(value.shape)
        ).astype(np.float32)
        for name, value in values.items()
        if value.dtype == np.float32
    }


@pytest.mark.parametrize("name", ROWS)
def test_the_function_is_the_same_before_training_and_folded_after_it(name):
    model, layers = opened(ROWS[name])
    (layer,) = layers
    x = samples(model, 16)
    full = with_norms(model, layers, calibration(model, layers, x))
    assert [node.op_type for node in full.graph.node].count("BatchNormalization") == 1
    onnx.checker.check_model(full)
    fresh = samples(model, 5, seed=9)
    close(outputs(model, fresh), outputs(full, fresh))
    trained = moved(layers, weights(full))
    trained = {key: value for key, value in trained.items() if key != "wz"}
    apart, together = holding(full, trained), holding(model, folded(layers, trained))
    close(outputs(apart, fresh), outputs(together, fresh))
    assert not np.allclose(outputs(model, fresh)[0], outputs(together, fresh)[0])
    assert set(folded(layers, trained)) == {layer.weight, layer.bias}


@pytest.mark.parametrize("name", ROWS)
def test_a_channel_at_zero_is_exactly_zero_when_folded(name):
    model, layers = opened(ROWS[name])
    (layer,) = layers
    full = with_norms(model, layers, calibration(model, layers, samples(model, 16)))
    values = moved(layers, weights(full))
    values[layer.scale][1] = values[layer.bias][1] = 0
    dead = np.zeros_like(values[layer.scale])
    dead[1] = 1
    x = samples(model, 3)
    result = folded(layers, values)
    assert result[layer.bias][1] == 0
    assert result[layer.bias][0] != 0
    of_channel = outputs(
        named(holding(model, {k: v for k, v in result.items() if k in weights(model)}), layer.output), x
    )[-1]
    extra = x if name == "residual" and layer.output == "a" else 0
    assert not np.any((of_channel - extra)[:, 1])
    assert np.any((of_channel - extra)[:, 0])


def named(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.append(onnx.ValueInfoProto(name=name))
    return result


@pytest.mark.parametrize("name", ["conv", "transposed, grouped", "gemm"])
def test_statistics_are_those_of_all_samples(name):
    model, layers = opened(ROWS[name])
    (layer,) = layers
    x = samples(model, 48) * np.linspace(0.1, 3, 48, dtype=np.float32).reshape(-1, *[1] * (layer.rank - 1))
    values = calibration(model, layers, x, size=16)
    plain = holding(model, {layer.bias: np.zeros_like(weights(model)[layer.bias])})
    z = outputs(named(plain, layer.output), x)[-1].astype(np.float64)
    axes = tuple(axis for axis in range(z.ndim) if axis != 1)
    np.testing.assert_allclose(values[layer.mean], z.mean(axes), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(values[layer.variance], z.var(axes), rtol=1e-4)
    np.testing.assert_allclose(values[layer.scale], np.sqrt(z.var(axes) + EPSILON), rtol=1e-4)


def test_a_channel_that_never_varies_stays_finite():
    model, layers = opened(ROWS["conv"])
    weight = weights(model)["w"].copy()
    weight[2] = 0
    model = holding(model, {"w": weight})
    x = samples(model, 16)
    values = calibration(model, layers, x)
    assert values[layers[0].variance][2] == 0
    full = with_norms(model, layers, values)
    close(outputs(model, x), outputs(full, x))
    close(outputs(model, x), outputs(holding(model, folded(layers, weights(full))), x))


LEFT = {
    LAST: (
        1,
        "g (float[N,3,6,5] x) => (float[N,4,p,q] y) <float[4,3,3,3] w, float[4] b>"
        " { a = Conv(x, w, b) y = Relu(a) }",
    ),
    NORMED: (
        1,
        "g (float[N,3,6,5] x) => (float[N,2,p,q] y) <float[4,3,3,3] w, float[4] b, float[4] s, float[4] t, float[4] m,"
        " float[4] var, float[2,4,1,1] wz>"
        " { a = Conv(x, w, b) c = BatchNormalization(a, s, t, m, var) y = Conv(c, wz) }",
    ),
    SHARED: (
        2,
        "g (float[N,3,6,5] x) => (float[N,2,p,q] y) <float[3,3,3,3] w, float[3] b, float[3] c, float[2,3,1,1] wz>"
        " { a = Conv(x, w, b) r = Relu(a) d = Conv(r, w, c) e = Relu(d) y = Conv(e, wz) }",
    ),
    SINGLE: (
        1,
        "g (float[N,3,6,5] x) => (float[N,2,p,q] y) <float[3,3,1,1] w, float[3] b, float[2,3,1,1] wz>"
        " { m = GlobalAveragePool(x) a = Conv(m, w, b) s = Sigmoid(a) e = Mul(x, s) y = Conv(e, wz) }",
    ),
}  # fmt: skip


@pytest.mark.parametrize("reason", LEFT)
def test_what_is_left_as_it_is_has_a_reason(reason):
    count, text = LEFT[reason]
    layers, left = found(normalise(build(text)))
    assert not layers
    assert left == {reason: count}


def test_what_does_not_train_or_is_tied_is_left():
    model = normalise(build(ROWS["conv"]))
    assert found(model, {"w", "wz"}) == ((), {FIXED: 1})
    assert found(model, tied={"b"}) == ((), {SHARED: 1})


def test_an_old_gemm_gets_something_to_add():
    model, layers = opened(ROWS["gemm"], opset=9)
    x = samples(model, 16)
    full = with_norms(model, layers, calibration(model, layers, x))
    onnx.checker.check_model(full)
    close(outputs(model, x), outputs(full, x))


def small_cnn(draw) -> onnx.ModelProto:
    """Return a random chain of convolutions with activations, residual sums and pools in between."""
    nodes, values, channels, current = [], [], 3, "x"
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    for index in range(draw(st.integers(1, 4))):
        group = draw(st.sampled_from([1, 1, channels]))
        made = channels * draw(st.integers(1, 2)) if group > 1 else draw(st.integers(2, 6))
        kernel = draw(st.sampled_from([1, 2, 3]))
        before, after = (kernel - 1) // 2, kernel - 1 - (kernel - 1) // 2
        has_bias = draw(st.booleans())
        bias = f", b{index}" if has_bias else ""
        values.append(f"float[{made},{channels // group},{kernel},{kernel}] w{index}")
        values.extend([f"float[{made}] b{index}"] if has_bias else [])
        pads = [before, before, after, after] if draw(st.booleans()) else [after, after, before, before]
        nodes.append(f"c{index} = Conv<group={group}, pads={pads}>({current}, w{index}{bias})")
        out = f"c{index}"
        if made == channels and draw(st.booleans()):
            nodes.append(f"s{index} = Add({current}, c{index})")
            out = f"s{index}"
        act = draw(st.sampled_from(["Relu", "Sigmoid", "HardSwish", "Tanh"]))
        nodes.append(f"a{index} = {act}({out})")
        current, channels = f"a{index}", made
    values.append(f"float[2,{channels},1,1] wz")
    nodes.append(f"y = Conv({current}, wz)")
    text = f"g (float[N,3,6,5] x) => (float[N,2,p,q] y) <{', '.join(values)}> {{ {' '.join(nodes)} }}"
    return normalise(build(text, seed=int(rng.integers(1 << 16))))


@given(st.data())
@settings(max_examples=25)
def test_any_small_cnn_computes_the_same(data):
    model = small_cnn(data.draw)
    layers, _ = found(model)
    x = samples(model, 16)
    if not layers:
        return
    full = with_norms(model, layers, calibration(model, layers, x))
    close(outputs(model, x), outputs(full, x))
    trained = moved(layers, weights(full))
    apart, together = holding(full, trained), holding(model, folded(layers, trained))
    close(outputs(apart, x), outputs(together, x))

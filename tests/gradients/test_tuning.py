"""The rewritten gradient graph computes what ONNX Runtime's own kernels compute."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onnx_oto.gradients.backends import ort_blocked, ort_strips, probing
from onnx_oto.gradients.backends import ort_training as ort
from onnx_oto.gradients.session.flat import aligned_zeros, layout
from onnx_oto.gradients.session.prepared import Order, Prepared

from .available import needs_training_build
from .conftest import Build, Here, model_from, normal

pytestmark = needs_training_build

CONVOLUTIONS = {
    "3x3": ("pads=[1, 1, 1, 1]", (6, 4, 3, 3), True),
    "1x1": ("pads=[0, 0, 0, 0]", (6, 4, 1, 1), True),
    "uneven pads": ("pads=[0, 1, 2, 1]", (6, 4, 3, 2), True),
    "grouped": ("group=2, pads=[1, 1, 1, 1]", (6, 2, 3, 3), True),
    "depthwise": ("group=4, pads=[2, 2, 2, 2]", (4, 1, 5, 5), True),
    "depthwise, two per channel": ("group=4", (8, 1, 3, 3), True),
    "stride": ("strides=[2, 2]", (6, 4, 3, 3), False),
    "dilation": ("dilations=[2, 2]", (6, 4, 3, 3), False),
    "pads beyond the kernel": ("pads=[3, 3, 3, 3]", (6, 4, 3, 3), False),
}


@pytest.fixture
def backend() -> ort.OrtTraining:
    return ort.OrtTraining()


def gradient_ops(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return a list that receives the op names of every gradient graph built from now on."""
    seen: list[list[str]] = []
    real = ort.OrtTraining.differentiate

    def spy(*arguments: Any, **options: Any) -> onnx.ModelProto:
        gradient = real(*arguments, **options)
        seen.append([node.op_type for node in gradient.graph.node])
        return gradient

    monkeypatch.setattr(ort.OrtTraining, "differentiate", spy)
    return seen


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_conv_grad(build: Build, monkeypatch: pytest.MonkeyPatch, name: str, compiled: bool) -> None:
    """With weights turned once per step for all shards, and in the graph of each where there is no compiler."""
    monkeypatch.setattr(ort, "has_compiler", lambda: compiled)
    attributes, shape, rewritten = CONVOLUTIONS[name]
    model = model_from(
        "(float[N, 4, 7, 6] x) => (float[N, O, H, W] y) {"
        f" a = Mul(x, v) c = Conv<{attributes}>(a, w, b) y = Relu(c) }}",
        {"v": normal(4, 1, 1), "w": normal(*shape, seed=1), "b": normal(shape[0], seed=2)},
    )
    ops = gradient_ops(monkeypatch)
    tuned = build(model, ("v", "w", "b"), batch=3, shards=1)
    monkeypatch.setattr(ort, "tune", lambda *arguments: None)
    plain = build(model, ("v", "w", "b"), batch=3, shards=1)
    assert (ops[0].count("Conv") == 2) is rewritten
    assert ("Gather" in ops[0]) is (rewritten and not compiled and shape[2:] != (1, 1))
    assert "ReluGrad" not in ops[0]
    assert "ReluGrad" in ops[1]
    x = normal(3, 4, 7, 6, seed=3)
    target = normal(*plain.predict({"x": x}).shape, seed=4)
    assert tuned.step({"x": x}, target) == plain.step({"x": x}, target)
    np.testing.assert_allclose(tuned.grads, plain.grads, rtol=1e-4, atol=1e-6 * np.abs(plain.grads).max())


def test_a_weight_that_two_convolutions_read_in_groups_of_their_own(build: Build) -> None:
    model = model_from(
        "(float[N, 4, 5, 5] x) => (float[N, 4, 5, 5] y) { a = Mul(x, v) b = Conv<group=2, pads=[1,1,1,1]>(a, w) "
        "c = Slice(b, start, stop, axis) y = Conv<pads=[1,1,1,1]>(c, w) }",
        {
            "v": normal(4, 1, 1),
            "w": normal(4, 2, 3, 3, seed=1),
            **{name: np.array([value]) for name, value in (("start", 0), ("stop", 2), ("axis", 1))},
        },
    )
    one, many = (build(model, ("v", "w"), batch=4, shards=shards) for shards in (1, 3))
    x, target = normal(4, 4, 5, 5, seed=2), normal(4, 4, 5, 5, seed=3)
    for session in (one, many):
        session.step({"x": x}, target)
        session.params *= np.float32(1.5)  # in place: the next step reads them
        session.step({"x": x}, target)
    np.testing.assert_allclose(many.grads, one.grads, rtol=1e-4, atol=1e-5 * np.abs(one.grads).max())
    step = 1e-3
    place = int(np.abs(one.grads).argmax())
    slope = float(one.grads[place])
    losses = []
    for change in (step, -2 * step):
        one.params[place] += np.float32(change)
        losses.append(one.step({"x": x}, target))
    assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(slope, rel=0.02)


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 4), st.integers(1, 40), st.integers(1, 40)]),
    kernel=st.sampled_from([(), (1,), (3, 3), (2, 3), (5,), (3, 3, 3)]),
    threads=st.integers(1, 4),
)
def test_turned_weights(sizes: tuple[int, int, int], kernel: tuple[int, ...], threads: int) -> None:
    """Any shape, and any number of threads that share the work."""
    groups, filters, channels = sizes
    weight = normal(groups * filters, channels, *kernel)
    shape = (groups * channels, filters, *kernel)
    apart = weight.reshape(groups, filters, channels, math.prod(kernel))
    expected = apart.transpose(0, 2, 1, 3)[..., ::-1].reshape(shape)
    require_made(weight, {Order(groups, turned=True): expected}, threads)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.tuples(*[st.integers(1, 4)] * 2),
    block=st.sampled_from([8, 16]),
    kernel=st.sampled_from([(1, 1), (3, 3), (2, 5)]),
    threads=st.integers(1, 4),
)
def test_weights_in_blocks(sizes: tuple[int, int], block: int, kernel: tuple[int, int], threads: int) -> None:
    filters, channels = (size * block for size in sizes)
    weight = normal(filters, channels, *kernel)
    expected = {}
    for turned in (False, True):
        plain = weight.transpose(1, 0, 2, 3)[:, :, ::-1, ::-1] if turned else weight
        first, second = plain.shape[:2]
        apart = plain.reshape(first // block, block, second // block, block, *kernel)
        expected[Order(1, turned, block)] = apart.transpose(0, 2, 4, 5, 3, 1).reshape(plain.shape)
    require_made(weight, expected, threads)


def require_made(weight: np.ndarray, expected: dict[Order, np.ndarray], threads: int) -> None:
    """All orders at once, beside a weight with a name that looks like numbers."""
    other = normal(3, 2, 3, seed=1)
    asked = [SimpleNamespace(name=o.input("w"), shape=list(e.shape)) for o, e in expected.items()]
    asked.append(SimpleNamespace(name=Order(1, turned=True).input("1.0.w"), shape=[2, 3, 3]))
    asked.append(SimpleNamespace(name="x", shape=[1]))
    prepared = Prepared(asked, {"w": weight, "1.0.w": other}, threads)
    with ThreadPoolExecutor(4) as pool:
        prepared.make(pool)
    *mine, last = prepared.arrays.values()
    for found, order in zip(mine, expected, strict=True):
        np.testing.assert_array_equal(found, expected[order])
    np.testing.assert_array_equal(last, other.transpose(1, 0, 2)[..., ::-1])


BLOCKED = {
    "3x3": ("pads=[1, 1, 1, 1]", (32, 16, 3, 3), 2),
    "5x5, uneven": ("pads=[0, 2, 3, 1]", (16, 16, 5, 5), 2),
    "stride": ("strides=[2, 2], pads=[1, 1, 1, 1]", (32, 16, 3, 3), 1),
    "dilation": ("dilations=[2, 2], pads=[2, 2, 2, 2]", (16, 16, 3, 3), 1),
    "grouped": ("group=2, pads=[1, 1, 1, 1]", (32, 8, 3, 3), 0),
    "20 filters": ("pads=[1, 1, 1, 1]", (20, 16, 3, 3), 0),
}


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("name", BLOCKED)
def test_convolutions_in_blocks(build: Build, monkeypatch: pytest.MonkeyPatch, name: str, bias: bool) -> None:
    """Forward and back; the reference is the runtime's own plain kernels."""
    monkeypatch.setattr(ort_blocked, "_WORTH_BLOCKING", 1)
    attributes, shape, blocked = BLOCKED[name]
    model = model_from(
        "(float[N, 16, 13, 11] x) => (float[N, O, H, W] y) {"
        f" a = Mul(x, v) c = Conv<{attributes}>(a, w{', b' if bias else ''}) y = Relu(c) }}",
        {"v": normal(16, 1, 1), "w": normal(*shape, seed=1)}
        | ({"b": normal(shape[0], seed=2)} if bias else {}),
    )
    names = ("v", "w", "b") if bias else ("v", "w")
    ops = gradient_ops(monkeypatch)
    tuned = build(model, names, batch=8, shards=1)
    monkeypatch.setattr(ort, "tune", lambda *arguments: None)
    plain = build(model, names, batch=8, shards=1)
    size = ort_blocked.block_size()
    expected = blocked if size and not any(channels % size for channels in shape[:2]) else 0
    assert ops[0].count("ReorderInput") == expected
    x = normal(8, 16, 13, 11, seed=3)
    target = normal(*plain.predict({"x": x}).shape, seed=4)
    for _ in range(2):
        assert tuned.step({"x": x}, target) == pytest.approx(plain.step({"x": x}, target), rel=1e-5)
        np.testing.assert_allclose(tuned.grads, plain.grads, rtol=1e-4, atol=1e-5 * np.abs(plain.grads).max())
        tuned.params *= np.float32(0.5)
        plain.params *= np.float32(0.5)


STRIPS = {
    "3x3": ("pads=[1, 1, 1, 1]", (6, 4, 3, 3)),
    "5x4, uneven": ("pads=[0, 3, 4, 1]", (6, 4, 5, 4)),
    "no pads": ("pads=[0, 0, 0, 0]", (6, 4, 3, 2)),
    "more above": ("pads=[2, 0, 0, 1]", (6, 4, 3, 2)),
    "1x1": ("kernel_shape=[1, 1]", (6, 4, 1, 1)),
    "1x1 with pads": ("pads=[0, 1, 0, 1]", (6, 4, 1, 1)),
}


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize("name", STRIPS)
def test_convolutions_of_strips(
    build: Build, monkeypatch: pytest.MonkeyPatch, name: str, compiled: bool, batch: int
) -> None:
    """Forward and back, images of unequal sides, with a bias; one image has nothing to be put together with."""
    for setting, value in (("_WORTH", 1), ("_SMALL", 60)):
        monkeypatch.setattr(ort_strips, setting, value)
    monkeypatch.setattr(ort, "has_compiler", lambda: compiled)
    attributes, shape = STRIPS[name]
    model = model_from(
        "(float[N, 4, 5, 6] x) => (float[N, O, H, W] y) {"
        f" a = Mul(x, v) c = Conv<{attributes}>(a, w, b) y = Tanh(c) }}",
        {"v": normal(4, 1, 1), "w": normal(*shape, seed=1), "b": normal(shape[0], seed=2)},
    )
    ops = gradient_ops(monkeypatch)
    tuned = build(model, ("v", "w", "b"), batch=batch, shards=1)
    monkeypatch.setattr(ort, "tune", lambda *arguments: None)
    plain = build(model, ("v", "w", "b"), batch=batch, shards=1)
    if compiled:  # without, weights are turned by transposing them
        both = 4 if name != "1x1 with pads" else 2  # whose gradient stays with the runtime's kernel
        assert ops[0].count("Transpose") == (both if batch > 1 else 0)
    x = normal(batch, 4, 5, 6, seed=3)
    target = normal(*plain.predict({"x": x}).shape, seed=4)
    assert tuned.step({"x": x}, target) == pytest.approx(plain.step({"x": x}, target), rel=1e-5)
    np.testing.assert_allclose(tuned.grads, plain.grads, rtol=1e-4, atol=1e-5 * np.abs(plain.grads).max())


def test_blocks_are_tried_before_they_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that loads and computes something else is not used."""

    def wrong(content: bytes, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        return [np.zeros((2, 2 * feeds["x"].shape[1], 5, 4), np.float32)]

    assert ort_blocked.block_size() in (0, 8, 16)
    monkeypatch.setattr(probing, "run_once", wrong)
    monkeypatch.setattr(probing, "shared", Here)
    assert not any(ort_blocked._computes(size) for size in ort_blocked.SIZES)


def test_first_layer_has_no_input_gradient(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    model = model_from(
        "(float[N, 2, 5, 5] x) => (float[N, O, H, W] y) { y = Conv(x, w) }", {"w": normal(3, 2, 3, 3)}
    )
    ops = gradient_ops(monkeypatch)
    session = build(model, ("w",), batch=2, shards=1)
    assert ops[0].count("Conv") == 1
    assert session.step({"x": normal(2, 2, 5, 5)}, np.zeros((2, 3, 3, 3), np.float32)) > 0


def test_relu_mask_is_exact_for_tiny_numbers(build: Build) -> None:
    """The smallest normal float32 is 1.2e-38; 0 and below give 0."""
    model = model_from(
        "(float[N, 4] x) => (float[N, 4] y) { a = Add(x, w) y = Relu(a) }", {"w": np.zeros(4, np.float32)}
    )
    session = build(model, ("w",), batch=1, shards=1)
    x = np.array([[1.2e-38, 0.0, -1.2e-38, 3e38]], np.float32)
    session.step({"x": x}, np.where(x > 1e38, x - np.float32(1e32), x - 1).astype(np.float32))
    assert (session.grads != 0).tolist() == [True, False, False, True]
    assert session.grads[0] == np.float32(2 / 4)


def test_layout_is_dense_and_aligned() -> None:
    values = {"a": normal(2, 3), "b": normal(), "c": normal(5)}
    where = layout(values)
    assert where.slices == {"a": (0, (2, 3)), "b": (6, ()), "c": (7, (5,))}
    assert where.size == 12
    flat = where.pack(values)
    for name, view in where.views(flat).items():
        np.testing.assert_array_equal(view, values[name])
        assert np.shares_memory(view, flat)
    assert all(aligned_zeros(n).ctypes.data % 64 == 0 for n in (1, 15, 16, 1000))
    assert layout({}).size == 0

"""What explains a difference, and what does not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
import pytest
from contract.builder import build
from onnx import ModelProto, TensorProto, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.model import graph, normalise
from onnx_oto.runtime.comparing import Held, compare, compare_piecewise, comparison
from onnx_oto.runtime.comparing.precise import precise
from onnx_oto.runtime.comparing.tails import JUMPING, jumps
from onnx_oto.runtime.runner import Runner, in_onnxruntime, runner


def with_tensor(model: ModelProto, name: str, value: np.ndarray) -> ModelProto:
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name == name:
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    return result


def two_orders(tail: str, outputs: str) -> tuple[ModelProto, ModelProto]:
    """Return a model of 4096 scores s, sums of terms that nearly cancel, and the same with another order of terms."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((64, 4096)).astype(np.float32)
    w, order = w - w.mean(0), rng.permutation(64)
    text = f"g (float[N,64] x) => ({outputs}) <float[64,4096] w, int64[64] order, int64[1] k = {{2000}}, "
    text += (
        "float off = {30.0}, float many = {1e3}> { a = Add(x, off) READ s = MatMul(READ, w) " + tail + " }"
    )
    one = build(text.replace("READ s", "s").replace("READ", "a"))
    other = build(text.replace("READ s", "g = Gather<axis=1>(a, order) s").replace("READ", "g"))
    other = with_tensor(with_tensor(other, "w", w[order]), "order", order.astype(np.int64))
    return with_tensor(one, "w", w), other


TAILS = {
    "TopK": ("p = Sigmoid(s) v, y = TopK(p, k)", "int64[N,K] y"),
    "Cast": ("t = Mul(s, many) y = Cast<to=6>(t)", "int32[N,4096] y"),
    "Round": ("t = Mul(s, many) f = Round(t) d = Sub(t, f) y = Mul(d, d)", "float[N,4096] y"),
    "Floor": ("t = Mul(s, many) f = Floor(t) d = Sub(t, f) y = Mul(d, d)", "float[N,4096] y"),
    "Greater": ("t = Mul(s, many) f = Round(t) b = Greater(f, t) y = Cast<to=1>(b)", "float[N,4096] y"),
}


@pytest.mark.parametrize("tail", TAILS)
def test_selections_that_rounding_decides_are_no_difference(tail: str) -> None:
    full, same = two_orders(*TAILS[tail])
    verdict = compare(full, same)
    assert verdict.passed, verdict.trouble
    assert tail in verdict.jumping
    assert verdict.max_rel < max(1e-4, 2 * verdict.noise)


def test_the_tail_of_a_detector_without_suppression() -> None:
    """Boxes are gathered in the order of scores that are nearly equal."""
    tail = """p = Sigmoid(s) v, i = TopK(p, k) b = Identity(s) z = Neg(b) y = GatherElements<axis=1>(z, i)"""
    full, same = two_orders(tail, "float[N,K] y")
    verdict = compare(full, same)
    assert verdict.passed, verdict.trouble
    assert verdict.jumping == ("TopK",)
    w = numpy_helper.to_array(next(t for t in same.graph.initializer if t.name == "w")).copy()
    w *= 1.5
    wrong = compare(full, with_tensor(same, "w", w))
    assert not wrong.passed


def test_another_threshold_is_a_difference() -> None:
    text = "g (float[N,64] x) => (int64[N,20] y) <int64[1] k = {20}> { v, y = TopK<largest=LARGEST>(x, k) }"
    verdict = compare(build(text.replace("LARGEST", "1")), build(text.replace("LARGEST", "0")))
    assert not verdict.passed
    assert "output 'y'" in verdict.trouble


@pytest.mark.parametrize(("limit", "passed"), [("0.5", True), ("0.4", False)])
def test_suppression_of_boxes(limit: str, passed: bool) -> None:
    """How many boxes are left is decided by rounding too; another threshold is a difference."""
    tail = """q = Reshape(s, four) c = Sigmoid(s) u = Unsqueeze(c, one) p = Slice(u, zero, many1k, two)
    y = NonMaxSuppression(q, p, top, iou)"""
    full, same = two_orders(tail, "int64[M,3] y")
    extra = {"four": [0, 1024, 4], "one": [1], "zero": [0], "many1k": [1024], "two": [2], "top": [1024]}
    for model, threshold in ((full, "0.5"), (same, limit)):
        for name, value in extra.items():
            model.graph.initializer.append(numpy_helper.from_array(np.array(value, np.int64), name))
        value = np.array([threshold], np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, "iou"))
    verdict = compare(full, same)
    assert verdict.passed is passed, verdict.trouble
    assert not passed or verdict.jumping in ((), ("NonMaxSuppression",))


def test_a_selection_from_a_folded_constant_is_not_taken_for_the_same() -> None:
    text = "g (float[N,3] x) => (int64[N,1] y) <float[3,3] w, float[1,3] c = {VALUE}> { SCORES y = ArgMax<axis=1>(s) }"
    full = build(text.replace("VALUE", "1.0, 2.0, 3.0").replace("SCORES", "s = MatMul(x, w)"))
    other = build(text.replace("VALUE", "9.0, 2.0, 3.0").replace("SCORES", "z = Sub(x, x) s = Add(z, c)"))
    assert not compare(full, other).passed


def test_bytes_are_compared_as_numbers() -> None:
    """One more than the other is a difference of one, however many of them there are."""
    text = """g (float[N,64] x) => (uint8[N,64] y) <float c = {FACTOR}, float z = {0.0}, float k = {255.0}>
    { a = Mul(x, c) b = Add(a, c) d = Clip(b, z, k) y = Cast<to=2>(d) }"""
    verdict = compare(*(build(text.replace("FACTOR", factor)) for factor in ("20.0", "20.5")))
    assert not verdict.passed
    assert 1 <= verdict.max_abs <= 64


@pytest.mark.parametrize("passed", [True, False])
def test_an_error_of_rounding_behind_a_transposition_is_measured(passed: bool) -> None:
    """Fused into the product by the runtime, it has no float64 kernel."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((1024, 8)).astype(np.float32)
    w, order = w - w.mean(0), rng.permutation(1024)

    def model(order: np.ndarray, name: str, factor: float) -> ModelProto:
        made = build(
            f"g (float[N,1024,5] x) => (float[N,5,8] y) <int64[1024] order, float[1024,8] w, float off = {{1000.0}}, "
            f"float k = {{{factor}}}> {{ a = Add(x, off) {name} = Gather<axis=1>(a, order) "
            f"t{name} = Transpose<perm=[0,2,1]>({name}) c{name} = MatMul(t{name}, w) y = Mul(c{name}, k) }}"
        )
        return with_tensor(with_tensor(made, "w", w[order]), "order", order.astype(np.int64))

    verdict = compare(model(np.arange(1024), "b", 1.0), model(order, "d", 1.0 if passed else 1.01))
    assert verdict.passed is passed
    if passed:
        assert 1e-4 < verdict.max_rel <= 2 * verdict.noise


@pytest.mark.parametrize(("factor", "passed"), [(1.0, True), (1.002, False), (1.01, False)])
def test_an_error_of_rounding_is_measured_and_no_more_is_forgiven(factor: float, passed: bool) -> None:
    """Sums of terms that nearly cancel: in float32 another order gives other results, in float64 it does not."""
    rng = np.random.default_rng(0)
    w = rng.standard_normal((1024, 8)).astype(np.float32)
    w, order = w - w.mean(0), rng.permutation(1024)

    def model(order: np.ndarray, name: str, factor: float) -> ModelProto:
        made = build(
            f"g (float[N,1024] x) => (float[N,8] y) <int64[1024] order, float[1024,8] w, float off = {{1000.0}}, "
            f"float k = {{{factor}}}> {{ a = Add(x, off) {name} = Gather<axis=1>(a, order) c{name} = MatMul({name}, w) "
            f"y = Mul(c{name}, k) }}"
        )
        return with_tensor(with_tensor(made, "w", w[order]), "order", order.astype(np.int64))

    verdict = compare(model(np.arange(1024), "b", 1.0), model(order, "d", factor))
    assert verdict.passed is passed
    if passed:
        assert 1e-4 < verdict.max_rel <= 2 * verdict.noise


@pytest.mark.parametrize(
    ("attributes", "weight", "shape"),
    [
        ("pads=[1,1,1,1]", "6,4,3,3", (2, 4, 7, 9)),
        ("group=2, strides=[2,1], pads=[1,0,2,1]", "6,2,3,2", (2, 4, 7, 9)),
        ("group=4, dilations=[2,2]", "8,1,3,3", (2, 4, 9, 9)),
        ("strides=[3]", "6,4,5", (3, 4, 22)),
    ],
)
def test_convolutions_run_in_float64(attributes: str, weight: str, shape: tuple[int, ...]) -> None:
    sizes = str(list(shape))
    names = "[A,B,C,D]" if len(shape) == 4 else "[A,B,C]"
    model = normalise(
        build(
            f"g (float{sizes} x) => (float{names} y) <float[{weight}] w, float[{weight[0]}] b> "
            f"{{ a = Conv<{attributes}>(x, w, b) y = Relu(a) }}"
        )
    )
    wide = precise(model, graph(model))
    assert all(node.op_type != "Conv" for node in wide.graph.node)
    assert_close(model, wide, shape)


@pytest.mark.parametrize("opset", [17, 18])
def test_norms_run_in_float64(opset: int) -> None:
    text = """g (float[2,4,5,6] x) => (float[2,4,1,1] y) <float[4] s, float[4] b, float[4] m, float[4] var>
    { n = InstanceNormalization(x, s, b) c = BatchNormalization(n, s, b, m, var) y = GlobalAveragePool(c) }"""
    model = normalise(build(text, opset=opset))
    assert_close(model, precise(model, graph(model)), (2, 4, 5, 6))


def assert_close(model: ModelProto, wide: ModelProto, shape: Sequence[int]) -> None:
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    (a,), (b,) = runner(model)({"x": x}), in_onnxruntime(wide)({"x": x})
    np.testing.assert_allclose(a, b, atol=1e-5)
    assert b.dtype == np.float32


DENSE = "g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { y = MatMul(x, w) }"


def unsteady(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    """Let the runtime give something else each time for feeds of `samples` and more."""
    rng = np.random.default_rng(0)

    def opened(model: ModelProto, **_: object) -> Runner:
        inner = in_onnxruntime(model)

        def run(feed: dict[str, np.ndarray]) -> tuple[list[np.ndarray], float]:
            noise = 100 * rng.standard_normal() if len(next(iter(feed.values()))) >= samples else 0
            return [np.asarray(value + noise, value.dtype) for value in inner(feed)], 0.0

        return Runner(run, inner.runtime)

    monkeypatch.setattr(comparison, "in_onnxruntime", opened)


def test_sizes_at_which_the_runtime_does_not_repeat_itself_do_not_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unsteady(monkeypatch, 2)
    verdict = compare(build(DENSE), build(DENSE))
    assert verdict.passed
    assert (verdict.sizes, verdict.unstable) == (({"N": 1},), ({"N": 3},))
    assert verdict.as_json()["not_repeatable"] == [{"N": 3}]


def test_a_runtime_that_never_repeats_itself_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    unsteady(monkeypatch, 1)
    with pytest.raises(UnsupportedError, match="other results each time the full model gets the same inputs"):
        compare(build(DENSE), build(DENSE))


def test_nor_does_it_piece_by_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    held = Held(build(DENSE), {})
    assert compare_piecewise(held, held, lambda name: {}).passed
    unsteady(monkeypatch, 1)
    with pytest.raises(UnsupportedError, match="other results each time the full model gets the same inputs"):
        compare_piecewise(held, held, lambda name: {})


def test_a_compact_model_that_the_runtime_refuses_is_a_difference() -> None:
    """The reference evaluator of onnx is no way out: it would run this one."""
    full = build(DENSE)
    refused = build("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { a = MatMul(x, w) y = Unheard(a) }")
    refused.graph.node[-1].op_type = "Relu"
    refused.graph.node[-1].domain = "nowhere"
    refused.opset_import.append(onnx.helper.make_opsetid("nowhere", 1))
    verdict = compare(full, refused)
    assert not verdict.passed
    assert "runs the full model but not the compact one" in verdict.trouble


def test_a_model_that_only_the_reference_runs_is_said_to() -> None:
    text = """g (float[N,7,5] x) => (float[N,7,1,8] y) <float[1,32,5] w, float[1,32,8] r>
    { y = LSTM<hidden_size=8, layout=1>(x, w, r) }"""
    verdict = compare(build(text), build(text))
    assert verdict.passed
    assert verdict.runtime.startswith("onnx reference evaluator ")
    assert verdict.refusal
    assert "layout" in verdict.as_json()["refused_by_onnxruntime"]
    assert "/" not in verdict.refusal


def test_what_jumps() -> None:
    model = normalise(
        build(
            "g (float[N,5] x, int64[N,5] i) => (float[N,5] a, int64[N,5] b, bool[N,5] c, bool[N,5] d, float[N,5] f) "
            "{ a = Cast<to=1>(i) b = Cast<to=7>(x) c = Less(x, a) d = Less(i, b) f = Relu(x) }"
        )
    )
    view = graph(model)
    found = {node.outputs[0] for node in view.nodes if jumps(node, view.dtypes)}
    assert found == {"b", "c"}
    assert {"TopK", "NonMaxSuppression", "Round"} <= JUMPING
    assert TensorProto.FLOAT in view.dtypes.values()

"""Who decides what is lowered: the backend's word, whatever the lowerings could do."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.gradients import require_trainable
from onnx_oto.gradients.backends import ort_training
from onnx_oto.gradients.backends.ort_covers import covers
from onnx_oto.gradients.graph.facts import Facts
from onnx_oto.gradients.graph.lowering import lower
from onnx_oto.runtime.worker import JobFailed

IMAGE = "(float[2, 4, 6, 6] x) => (float[2, C, H, W] y)"


def model_of(body: str, signature: str = IMAGE, **constants: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 19]> g {signature} {{ {body} }}')
    model.graph.initializer.extend(numpy_helper.from_array(v, k) for k, v in constants.items())
    return model


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node if node.op_type != "Identity"]


def test_what_is_covered_stays_though_it_has_a_lowering() -> None:
    model = model_of("a = Elu(x) y = HardSwish(a)")
    assert ops(lower(model, ["x"], lambda node, facts: None).model) == ["Elu", "HardSwish"]


def test_what_is_not_covered_is_lowered_or_refused_with_the_reason() -> None:
    def no_split(node: onnx.NodeProto, facts: Facts) -> str | None:
        return "this backend has no Split" if node.op_type == "Split" else None

    halves = model_of("a, b = Split<axis=1, num_outputs=2>(x) y = Add(a, b)")
    assert ops(lower(halves, ["x"], no_split).model) == ["Slice", "Slice", "Add"]
    model = model_of("y = Cos(x)")
    (refusal,) = lower(model, ["x"], lambda node, facts: "this backend has no Cos").refusals
    assert (refusal.op, refusal.advice) == ("Cos", "this backend has no Cos")
    with pytest.raises(UnsupportedError, match=r"node 'y' \(Cos\): this backend has no Cos"):
        require_trainable((refusal,))


def test_a_lowering_that_refuses_says_why() -> None:
    model = model_of('y = Resize<antialias=1, mode="linear">(x, , s)', s=np.array([1, 1, 2, 2], np.float32))
    (refusal,) = lower(model, ["x"], covers).refusals
    assert "antialias" in refusal.advice


def test_training_ops_are_lowered_whatever_is_covered() -> None:
    weights = {name: np.ones(4, np.float32) for name in ("s", "b", "m", "v")}
    model = model_of("d = Dropout(x) y = BatchNormalization(d, s, b, m, v)", **weights)
    lowered = lower(model, ["x", "s"], lambda node, facts: None)
    assert ops(lowered.model) == [
        "Mul",
        "Mul",
        "BatchNormalization",
        "Mul",
    ]  # the last two: the variance that is kept
    assert lowered.statistics.keys() == {"m", "v"}
    assert len(lowered.masks) == 1


@pytest.mark.parametrize("op", ["ScatterElements", "ScatterND"])
def test_places_named_twice_are_refused(op: str) -> None:
    index = np.zeros((2, 4, 6, 6), np.int64) if op == "ScatterElements" else np.array([[0], [-2]])
    updates = np.ones((2, 4, 6, 6), np.float32)
    model = model_of(f'y = {op}<reduction="add">(x, i, u)', i=index, u=updates)
    (refusal,) = lower(model, ["x"], covers).refusals
    assert "its indices name a place twice" in refusal.advice


def test_indices_that_are_read_are_refused() -> None:
    text = "(float[2, 4, 6, 6] x) => (float[2, C, H, W] y, int64[A, B, C, D] i)"
    model = model_of("y, i = MaxPool<kernel_shape=[2, 2], storage_order=1>(x)", text)
    (refusal,) = lower(model, ["x"], covers).refusals
    assert "its second output (indices) is read" in refusal.advice


@pytest.mark.parametrize(
    ("body", "facts", "reason"),
    [
        ('y = Conv<auto_pad="SAME_UPPER">(x, w)', Facts(shapes={"w": (4, 4, 3, 3)}), "auto_pad"),
        ("y = AveragePool<kernel_shape=[2, 2], dilations=[2, 2]>(x)", Facts(), "dilations"),
        ("y = LayerNormalization(x, s)", Facts(), "bias"),
        ("y, m, d = LayerNormalization(x, s, b)", Facts(read={"y", "m"}), "output 'm'"),
        ("y, z = Split<axis=0, num_outputs=2>(x)", Facts(read={"y"}), "not read"),
        ("y = Clip(x, l)", Facts(carried={"x", "l"}), "bounds"),
        ("y = Pow(x, p)", Facts(carried={"x", "p"}), "exponent"),
        ("y = Pow(x, p)", Facts(shapes={"x": (2,), "y": (3, 2)}), "broadcast"),
        ('y = ScatterND<reduction="add">(x, i, u)', Facts(), "ignores its reduction 'add'"),
        ("y = Transpose(x)", Facts(), "perm"),
        ("y = Conv<group=2>(x, w)", Facts(shapes={"w": (4, 2, 3)}), "writes behind its memory"),
        ("y = Conv(x, w)", Facts(shapes={"w": (4, 2, 3, 3, 3)}), "slower than that of 2-D"),
        ("y = Conv<dilations=[2]>(x, w)", Facts(shapes={"w": (4, 2, 3)}), "slower than that of 2-D"),
        ("y = AveragePool<kernel_shape=[2, 2, 2]>(x)", Facts(), "3-D AveragePool"),
        ("y = MaxPool<kernel_shape=[2, 2], ceil_mode=1>(x)", Facts(), "in the pads altogether"),
        ("y = MaxPool<kernel_shape=[2], pads=[2, 0]>(x)", Facts(), "as large as the kernel"),
        ("y = MaxPool<kernel_shape=[2], storage_order=1>(x)", Facts(), "row-major"),
        ("y = MatMul(x, v)", Facts(shapes={"x": (6, 6), "v": (6,)}), "1-D"),
        ("y = MatMul(x, v)", Facts(), "unknown"),
        ("y = Gemm(x, v, c)", Facts(shapes={"c": ()}), "scalar"),
        ("y = Slice(x, s, e, a, t)", Facts(constants={"t": np.array([-1])}), "negative"),
        ("y = Slice(x, s, e, a, t)", Facts(), "'t' are computed"),
        ('y = Pad<mode="edge">(x, p)', Facts(), "constant pads only"),
        ("y = ReduceSum<noop_with_empty_axes=1>(x)", Facts(), "reduces nothing"),
        ("y = Where(c, x, z)", Facts(shapes={"x": (2,), "y": (3, 2)}, carried={"x"}), "broadcast"),
        ("y = BatchNormalization(x, s, b, m, v)", Facts(), "batch statistics"),
        ("y = Elu(x)", Facts(), "no gradient for this op"),
        ("y = com.acme.Relu(x)", Facts(), "no gradient for this op"),
    ],
)
def test_reasons(body: str, facts: Facts, reason: str) -> None:
    (node,) = model_of(body).graph.node
    assert reason in (covers(node, facts) or "")


def test_what_the_builder_cannot_differentiate_is_one_line_with_a_way_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Builder:
        def call(self, *_: object) -> bytes:
            raise JobFailed("Argument mismatch when removing edge.\nand a trace")

    monkeypatch.setattr(ort_training, "shared", Builder)
    model = model_of("y = Mul(x, w)", "(float[2] x) => (float[2] y)", w=np.ones(2, np.float32))
    with pytest.raises(UnsupportedError, match=r"removing edge\.; train with --backend plain") as caught:
        ort_training.OrtTraining().differentiate(model, ["w"])
    assert "\n" not in str(caught.value)

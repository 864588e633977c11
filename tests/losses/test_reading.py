"""The tensor in front of a final activation: same entries, same places, or the output itself where that is not sure."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser
from onnx.reference import ReferenceEvaluator

from onnx_oto.losses import read
from onnx_oto.losses.reading import read_each

SOFTMAX: Mapping[str, int | None] = {"Softmax": 1, "LogSoftmax": 1}
SIGMOID: Mapping[str, int | None] = {"Sigmoid": None}
CONSTANTS = {
    "flat": np.array([0, -1]),
    "same": np.array([-1, 4]),
    "pixels": np.array([0, 4, 6]),
    "merged": np.array([-1, 4]),
    "tail": np.array([2, 3]),
}


def model_of(text: str, opset: int) -> onnx.ModelProto:
    model = parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g {text}')
    for name, value in CONSTANTS.items():
        if name in text:
            model.graph.initializer.append(numpy_helper.from_array(value.astype(np.int64), name))
    return model


def values(model: onnx.ModelProto, *names: str) -> list[np.ndarray]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    copy.graph.output.extend(
        onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names
    )
    shape = [d.dim_value or 2 for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    found = ReferenceEvaluator(copy).run(None, {"x": x})
    return [np.asarray(array) for array in found]


def softmax(z: np.ndarray, axis: int) -> np.ndarray:
    e = np.exp(z - z.max(axis=axis, keepdims=True))
    return np.asarray(e / e.sum(axis=axis, keepdims=True))


SEEN_THROUGH = [
    ("(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) y = Softmax(z) }", 17),
    (
        "(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) p = Softmax<axis=1>(z) q = Identity(p) y = Identity(q) }",
        17,
    ),
    ("(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) y = Softmax(z) }", 9),
    ("(float[N, 4, 3] x) => (float[N, 4, 3] y) { z = Neg(x) y = Softmax<axis=1>(z) }", 13),
    ("(float[N, 4, 1, 1] x) => (float[N, 4] y) { z = Neg(x) p = Softmax<axis=1>(z) y = Flatten(p) }", 11),
    (
        "(float[N, 4, 1, 1] x) => (float[N, 4] y) { z = Neg(x) p = Softmax<axis=1>(z) y = Reshape(p, flat) }",
        17,
    ),
    (
        "(float[N, 4, 1, 1] x) => (float[N, 4] y) { z = Neg(x) p = Softmax<axis=1>(z) y = Squeeze(p, tail) }",
        17,
    ),
    (
        "(float[N, 4, 2, 3] x) => (float[N, 4, 6] y) { z = Neg(x) p = Softmax<axis=1>(z) y = Reshape(p, pixels) }",
        17,
    ),
    (
        "(float[N, 3, 4] x) => (float[N, 4, 3] y) { z = Neg(x) p = Softmax(z) y = Transpose<perm=[0, 2, 1]>(p) }",
        17,
    ),
]
"""Softmax over the classes, which stay on axis 1 of the output."""


@pytest.mark.parametrize(("text", "opset"), SEEN_THROUGH)
def test_logits_are_found(text: str, opset: int) -> None:
    model = model_of(text, opset)
    name = read(model, "y", SOFTMAX)
    assert name != "y"
    logits, output = values(model, name, "y")
    assert logits.shape == output.shape
    assert (logits < 0).any()
    np.testing.assert_allclose(softmax(logits, 1), output, rtol=1e-5)
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize(
    ("text", "opset"),
    [
        ("(float[N, 4] x) => (float[N, 4] y) { y = Neg(x) }", 17),
        ("(float[N, 4, 3] x) => (float[N, 4, 3] y) { z = Neg(x) y = Softmax(z) }", 17),
        ("(float[N, 4, 3] x) => (float[N, 4, 3] y) { z = Neg(x) y = Softmax<axis=1>(z) }", 11),
        ("(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) y = Sigmoid(z) }", 17),
        ("(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) p = Softmax(z) y = Mul(p, p) }", 17),
        (
            "(float[N, 4, 3] x) => (float[M, 4] y) { z = Neg(x) p = Softmax<axis=1>(z) y = Reshape(p, merged) }",
            17,
        ),
        (
            "(float[N, 4, 4] x) => (float[N, 4, 4] y) "
            "{ z = Neg(x) p = Softmax<axis=1>(z) y = Transpose<perm=[0, 2, 1]>(p) }",
            17,
        ),
        ("(float[N, 4] x) => (float[N, 4] y) { z = Neg(x) y = mine.Softmax(z) }", 17),
    ],
)
def test_what_is_no_softmax_over_the_classes_is_read_as_it_is(text: str, opset: int) -> None:
    model = model_of(text, opset)
    if "mine" in text:
        model.opset_import.append(onnx.helper.make_opsetid("mine", 1))
    before = model.SerializeToString()
    assert read(model, "y", SOFTMAX) == "y"
    assert model.SerializeToString() == before


def test_classes_on_the_last_axis() -> None:
    model = model_of("(float[N, 5, 4] x) => (float[N, 5, 4] y) { z = Neg(x) y = Softmax(z) }", 17)
    assert read(model, "y", {"Softmax": -1}) == "z"
    assert read(model, "y", SOFTMAX) == "y"


def test_an_elementwise_activation_is_seen_through_any_move() -> None:
    text = """(float[N, 4, 3] x) => (float[M, 4] y) {
        z = Neg(x) p = Sigmoid(z) t = Transpose<perm=[0, 2, 1]>(p) y = Reshape(t, same)
    }"""
    model = model_of(text, 17)
    name = read(model, "y", SIGMOID)
    logits, output = values(model, name, "y")
    np.testing.assert_allclose(1 / (1 + np.exp(-logits)), output, rtol=1e-5)


def test_what_else_reads_the_probabilities_keeps_them() -> None:
    text = """(float[N, 4] x) => (float[N, 4] y, float[N, 4] other) {
        z = Neg(x) p = Softmax(z) y = Identity(p) other = Mul(p, p)
    }"""
    model = model_of(text, 17)
    assert read(model, "y", SOFTMAX) == "z"
    y, other = values(model, "y", "other")
    np.testing.assert_array_equal(other, y * y)


def test_what_two_outputs_share_is_read_as_two_tensors() -> None:
    """A graph has every output once: scores, and chances that are read in front of their Softmax."""
    model = model_of("(float[N,4] x) => (float[N,4] s, float[N,4] p) { s = Mul(x, x) p = Softmax(s) }", 17)
    first, second = read_each(model, ["s", "p"], [{}, SOFTMAX])
    assert first == "s" != second
    scores, copies = values(model, first, second)
    np.testing.assert_array_equal(scores, copies)

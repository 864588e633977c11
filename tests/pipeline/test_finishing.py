"""The models that are measured after training."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper, parser

from onnx_oto.pipeline.finishing import batch_size, predictor, trimmed, with_weights

HEADER = '<ir_version: 8, opset_import: ["" : 17]>\n'
TWO = (
    "g (float[{n},3] x, float[{n},2] z) => (float[{n},4] y, float[{n},2] other)"
    " {{ a = MatMul(x, w) y = Relu(a) other = Add(z, v) }}"
)


def two_outputs(batch: int | str) -> onnx.ModelProto:
    model = parser.parse_model(HEADER + TWO.format(n=batch))
    rng = np.random.default_rng(0)
    for name, shape in (("w", (3, 4)), ("v", (2,))):
        model.graph.initializer.append(
            numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        )
    return model


def test_what_another_output_needs_is_not_asked_for():
    """The data hold no input that the trained output does not read."""
    model = two_outputs("N")
    lean = trimmed(model, ["y"])
    assert [value.name for value in lean.graph.input] == ["x"]
    assert [tensor.name for tensor in lean.graph.initializer] == ["w"]
    assert len(model.graph.output) == len(model.graph.input) == 2
    x = np.ones((2, 3), np.float32)
    assert predictor(lean)({"x": x})[0].shape == (2, 4)


def test_an_input_that_only_a_body_reads_stays():
    model = parser.parse_model(
        HEADER + "g (float[N,3] x, float[N,3] z, bool c) => (float[N,3] y, float[N,3] other) {"
        " a = If(c) <then_branch = t () => (float[N,3] p) { p = Relu(x) },"
        " else_branch = e () => (float[N,3] q) { q = Neg(x) }>"
        " y = Abs(a) other = Relu(z) }"
    )
    lean = trimmed(model, ["y"])
    assert [value.name for value in lean.graph.input] == ["x", "c"]
    onnx.checker.check_model(lean)
    x = -np.ones((2, 3), np.float32)
    np.testing.assert_array_equal(predictor(lean)({"x": x, "c": np.array(False)})[0], -x)


@pytest.mark.parametrize(("batch", "size"), [("N", None), (4, 4), (1, 1)])
def test_batch_size(batch, size):
    assert batch_size(two_outputs(batch)) == size


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("count", [1, 4, 7])
def test_a_fixed_batch_takes_any_number_of_samples(batch, count):
    x = np.random.default_rng(1).standard_normal((count, 3)).astype(np.float32)
    (expected,) = predictor(trimmed(two_outputs("N"), ["y"]))({"x": x})
    (found,) = predictor(trimmed(two_outputs(batch), ["y"]))({"x": x})
    np.testing.assert_array_equal(found, expected)


def test_weights_are_put_into_a_copy():
    model = two_outputs("N")
    before = model.SerializeToString()
    new = with_weights(model, {"w": np.zeros((3, 4), np.float32)})
    assert model.SerializeToString() == before
    values = {t.name: numpy_helper.to_array(t) for t in new.graph.initializer}
    assert not values["w"].any()
    assert values["v"].any()

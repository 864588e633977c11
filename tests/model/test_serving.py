"""Samples come first however the model has them, and inputs without data are filled."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from onnx_oto.errors import UnsupportedError, UsageError
from onnx_oto.model.normal.serving import Serving, serving

TIME_FIRST = "(float[5, batch, 3] x) => (float[5, batch, 4] y) { y = MatMul(x, w) }"
LSTM = """(float[T, batch, 3] x, float[1, batch, 2] h, float[1, batch, 2] c) => (float[T, 1, batch, 2] y) {
    y, last, cell = LSTM<hidden_size=2>(x, w, r, , , h, c)
}"""
RNG = np.random.default_rng(0)
LSTM_WEIGHTS = {"w": RNG.standard_normal((1, 8, 3)), "r": RNG.standard_normal((1, 8, 2))}


def model_of(text: str, **weights: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]> g {text}')
    for name, value in weights.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
    onnx.checker.check_model(model, full_check=True)
    return model


def outputs(model: onnx.ModelProto, **inputs: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(model, full_check=True)
    return ReferenceEvaluator(model).run(None, inputs)[0]


def shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    return {
        v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }


def test_a_batch_behind_the_time_comes_first_in_input_and_output() -> None:
    model = model_of(TIME_FIRST, w=RNG.standard_normal((3, 4)))
    found = serving(model, {""})
    assert found == Serving({"x": 1}, {})
    served = found.served(model)
    assert shapes(served) == {"x": ["batch", 5, 3]}
    x = RNG.standard_normal((5, 2, 3)).astype(np.float32)
    ours = outputs(served, x=x.transpose(1, 0, 2))
    np.testing.assert_array_equal(ours, outputs(model, x=x).transpose(1, 0, 2))
    assert shapes(model) == {"x": [5, "batch", 3]}, "the argument is not modified"


def test_first_states_are_zeros_where_the_data_do_not_hold_them() -> None:
    model = model_of(LSTM, **LSTM_WEIGHTS)
    assert serving(model, {""}) == Serving({"x": 1, "h": 1, "c": 1}, {"h": 0.0, "c": 0.0})
    assert serving(model, {"x", "h", "c"}).values == {}
    assert serving(model, {"x", "h"}).values == {"c": 0.0}
    served = serving(model, {"x"}).served(model)
    assert shapes(served) == {"x": ["batch", "T", 3]}
    x = RNG.standard_normal((4, 2, 3)).astype(np.float32)
    zeros = np.zeros((1, 2, 2), np.float32)
    expected = outputs(model, x=x, h=zeros, c=zeros).transpose(2, 0, 1, 3)
    np.testing.assert_allclose(outputs(served, x=x.transpose(1, 0, 2)), expected, rtol=1e-6)


def test_a_state_that_is_read_by_others_too_is_none() -> None:
    text = LSTM.replace("y, last", "z = Relu(h) y, last")
    assert serving(model_of(text, **LSTM_WEIGHTS), {"x"}).values == {"c": 0.0}


def test_numbers_that_are_asked_for() -> None:
    model = model_of(
        "(float[n, 3] x, int64 rate) => (float[n, 3] y) { r = Cast<to=1>(rate) y = Div(x, r) }",
    )
    served = serving(model, {""}, values={"rate": 8}).served(model)
    assert shapes(served) == {"x": ["n", 3]}
    x = RNG.standard_normal((2, 3)).astype(np.float32)
    np.testing.assert_array_equal(outputs(served, x=x), x / 8)
    with pytest.raises(UsageError, match="the model has no input 'rat': it reads x, rate"):
        serving(model, {""}, values={"rat": 8})


def test_axes_that_are_asked_for() -> None:
    model = model_of("(float[a, b, 3] x) => (float[a, b, 3] y) { y = Relu(x) }")
    assert serving(model, {""}).axes == {}
    served = serving(model, {""}, axes={"x": 1}).served(model)
    assert shapes(served) == {"x": ["b", "a", 3]}
    x = RNG.standard_normal((2, 4, 3)).astype(np.float32)
    np.testing.assert_array_equal(
        outputs(served, x=x.transpose(1, 0, 2)), np.maximum(x, 0).transpose(1, 0, 2)
    )
    with pytest.raises(UsageError, match="input 'x' has 3 axes: its batch cannot be on axis 3"):
        serving(model, {""}, axes={"x": 3})


@pytest.mark.parametrize(
    ("inputs", "axes"),
    [
        ("float[N, 3] x", {}),
        ("float[1, length] x", {}),
        ("float[points, N, 3] x", {}),
        ("float[s, batch_size] x", {"x": 1}),
        ("float[batch, s] x, float[2, batch, 4] state", {"state": 1}),
        ("float[a, 3] x, float[2, b, 4] state", {"state": 1}),
        ("float[a, 3] x, float[1, b] mask", {}),
        ("float[a, 3] x, float[b, 3] z", {}),
        ("float[2, 3] x", {}),
    ],
)
def test_the_axis_of_the_batch(inputs: str, axes: dict[str, int]) -> None:
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 17]> g ({inputs}) => (float y) {{ y = ReduceSum<keepdims=0>(x) }}'
    )
    assert serving(model, None).axes == axes


def test_more_than_the_batch_cannot_be_filled() -> None:
    model = model_of(
        "(float[n, 3] x, float[n, t] z) => (float y) { a = Add(x, z) y = ReduceSum<keepdims=0>(a) }"
    )
    with pytest.raises(UnsupportedError, match="input 'z' leaves more open than its batch"):
        serving(model, {"x"}, values={"z": 0.0}).served(model)


def test_bodies_read_the_turned_input() -> None:
    model = model_of(
        """(float[3, batch] x, bool flag) => (float[3, batch] y) {
            y = If(flag) <then_branch = a () => (float[3, batch] t) { t = Neg(x) },
                          else_branch = b () => (float[3, batch] e) { e = Relu(x) }>
        }"""
    )
    served = serving(model, {"x"}, values={"flag": 1}).served(model)
    x = RNG.standard_normal((3, 2)).astype(np.float32)
    np.testing.assert_array_equal(outputs(served, x=x.T), -x.T)

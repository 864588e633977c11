"""The proof itself: what counts as equal, and what is fed."""

from __future__ import annotations

import numpy as np
import pytest
from contract.builder import build, copied
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_oto.errors import UnsupportedError
from onnx_oto.runtime.comparing import Feeding, compare, random_inputs
from onnx_oto.runtime.comparing.difference import difference
from onnx_oto.runtime.comparing.inputs import ANY_WORDS
from onnx_oto.runtime.runner import runner

DENSE = "g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float[3] b> { a = MatMul(x, w) y = Add(a, b) }"


def changed(model: ModelProto, name: str, amount: float) -> ModelProto:
    """Return the model with `amount` added to the first element of an initializer."""
    result = ModelProto()
    result.CopyFrom(model)
    for tensor in result.graph.initializer:
        if tensor.name == name:
            value = numpy_helper.to_array(tensor).copy()
            value.reshape(-1)[0] += amount
            tensor.CopyFrom(numpy_helper.from_array(value, name))
    return result


def test_a_model_equals_itself() -> None:
    found = compare(build(DENSE), build(DENSE)).as_json()
    assert found.pop("runtime").startswith("ONNX Runtime ")
    assert found == {
        "passed": True, "max_abs": 0.0, "max_rel": 0.0, "samples": 4, "sizes": [{"N": 3}, {"N": 1}], "skipped": 0,
    }  # fmt: skip


def test_a_model_of_fixed_sizes_is_fed_as_often_as_asked() -> None:
    model = build(DENSE.replace("N", "2"))
    found = compare(model, model, batches=3)
    assert (found.samples, found.as_json()["sizes"], found.skipped) == (6, [], 0)


@pytest.mark.parametrize(("amount", "passed"), [(1e-7, True), (1e-2, False)])
def test_a_changed_bias_is_seen(amount: float, passed: bool) -> None:
    verdict = compare(build(DENSE), changed(build(DENSE), "b", amount))
    assert verdict.passed is passed
    assert verdict.max_abs <= amount + 1e-6
    assert passed or verdict.max_abs >= 0.9 * amount


def test_a_difference_behind_a_saturated_output_is_seen() -> None:
    text = """g (float[N,5] x) => (float[N,3] y) <float[5,3] w, float[3] b, float s = {1000.0}>
    { a = MatMul(x, w) c = Add(a, b) y = Softmax(c) }"""
    big = changed(build(text), "b", 200.0)
    assert not compare(big, changed(big, "b", 5.0)).passed


def test_given_inputs_are_used() -> None:
    left, right = build(DENSE), changed(build(DENSE), "w", 1.0)
    zeros = [{"x": np.zeros((4, 5), np.float32)}]
    assert compare(left, right, inputs=zeros).passed
    assert not compare(left, right, inputs=[{"x": np.ones((4, 5), np.float32)}]).passed
    assert compare(left, right, inputs=zeros).samples == 4


def test_a_model_that_runs_on_nothing_is_unsupported() -> None:
    text = """g (float[N,M] x) => (float[N,3] y) <float[7001,3] w, int64[2] s = {0, 7001}>
    { f = Reshape(x, s) y = MatMul(f, w) }"""
    model = build(text)
    with pytest.raises(UnsupportedError, match=r"does not run on random inputs.*--input-shape"):
        compare(model, model)
    assert compare(model, model, feeding=Feeding(shapes={"x": (2, 7001)})).passed


@pytest.mark.parametrize(
    "text", ["g (float[N,3,H,H] x) => (float[N,3] y) <float[3072,3] w> { a = Flatten(x) y = MatMul(a, w) }"]
)
def test_unknown_sizes_are_guessed_until_the_model_runs(text: str) -> None:
    model = build(text)
    assert compare(model, model).passed


@pytest.mark.parametrize(
    ("a", "b", "passed"),
    [
        (np.float32([1, 2]), np.float32([1, 2]), True),
        (np.float32([1, 2]), np.float32([1, 2.1]), False),
        (np.float32([1, 2]), np.float32([[1, 2]]), False),
        (np.float32([1, 2]), np.float64([1, 2]), False),
        (np.float32([1, np.nan]), np.float32([1, np.nan]), True),
        (np.float32([1, np.nan]), np.float32([np.nan, 1]), False),
        (np.float32([1, np.inf]), np.float32([1, -np.inf]), False),
        (np.float32([np.nan]), np.float32([np.nan]), True),
        (np.float32([1, 2]), np.float32([1, np.inf]), False),
        (np.int64([1, 2]), np.int64([1, 2]), True),
        (np.int64([1, 2]), np.int64([1, 3]), False),
        (np.array([True]), np.array([False]), False),
        (np.float16([1]), np.float16([1.01]), True),
        (np.float64([1]), np.float64([1 + 1e-6]), False),
        (np.float32([]), np.float32([]), True),
    ],
)
def test_difference(a: np.ndarray, b: np.ndarray, passed: bool) -> None:
    assert difference(a, b)[0] is passed


def test_tiny_outputs_are_compared_absolutely() -> None:
    tiny = np.float32([1e-9, 2e-9])
    assert difference(tiny, tiny + np.float32(1e-8))[0]
    assert not difference(tiny, tiny + np.float32(1e-4))[0]


def test_random_inputs_fit_the_declared_ones() -> None:
    inputs = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, "H", "W"]),
        helper.make_tensor_value_info("mask", TensorProto.BOOL, ["N", "H"]),
        helper.make_tensor_value_info("ids", TensorProto.INT32, [None, 4]),
        helper.make_tensor_value_info("half", TensorProto.FLOAT16, [2]),
        helper.make_tensor_value_info("flag", TensorProto.BOOL, []),
        helper.make_tensor_value_info("number", TensorProto.FLOAT, []),
    ]
    model = helper.make_model(helper.make_graph([], "g", inputs, []))
    made = random_inputs(model, np.random.default_rng(0), batch=3, size=8)
    assert {name: (a.shape, a.dtype.name) for name, a in made.items()} == {
        "image": ((3, 3, 8, 8), "float32"),
        "mask": ((3, 8), "bool"),
        "ids": ((3, 4), "int32"),
        "half": ((2,), "float16"),
        "flag": ((), "bool"),
        "number": ((), "float32"),
    }
    assert all(isinstance(a, np.ndarray) for a in made.values())
    assert set(np.unique(made["ids"])) <= {0, 1}


def test_initializers_that_are_inputs_are_not_fed() -> None:
    model = build(DENSE)
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [5, 3]))
    assert set(random_inputs(model, np.random.default_rng(0))) == {"x"}


def test_strings_are_those_that_readers_list_else_any() -> None:
    value = helper.make_tensor_value_info("text", TensorProto.STRING, ["N", 50])
    model = helper.make_model(helper.make_graph([], "g", [value], []))
    assert set(random_inputs(model, np.random.default_rng(0))["text"].flat) == set(ANY_WORDS)
    for reads, keys in (("other", ["no"]), ("text", ["red", "blue"])):
        node = helper.make_node(
            "LabelEncoder",
            [reads],
            ["z"],
            domain="ai.onnx.ml",
            keys_strings=keys,
            values_int64s=[0] * len(keys),
        )
        model.graph.node.append(node)
        assert set(random_inputs(model, np.random.default_rng(0))["text"].flat) == set(keys)


@pytest.mark.parametrize("version", [1, 2])
def test_models_of_categories_are_compared(version: int) -> None:
    """What is told apart by strings alone: two rows of a table, one of them changed."""
    words = ["red", "green", "blue"]
    attributes = {"classes_strings": words}
    if version > 1:
        attributes = {"keys_strings": words, "values_int64s": [0, 1, 2]}
    model = build(
        """g (string[N] x) => (float[N,4] y) <float[3,6] table, float[6,4] w>
        { i = ai.onnx.ml.LabelEncoder(x) h = Gather(table, i) y = MatMul(h, w) }"""
    )
    del model.opset_import[1:]
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", version))
    model.graph.node[0].attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
    assert compare(model, model).passed
    assert not compare(model, changed(model, "table", 1.0)).passed


def test_operators_newer_than_the_runtime_run_by_the_reference() -> None:
    model = build("g (float[N,5] x) => (float[N,5] y) { y = Swish(x) }", opset=24)
    x = np.linspace(-2, 2, 10, dtype=np.float32).reshape(2, 5)
    (y,) = runner(model)({"x": x})
    np.testing.assert_allclose(y, x / (1 + np.exp(-x)), rtol=1e-6)


def test_a_model_that_nothing_runs_is_unsupported() -> None:
    node = helper.make_node("Unheard", ["x"], ["y"], domain="nowhere")
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("nowhere", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets)
    with pytest.raises(UnsupportedError, match="cannot be run"):
        compare(model, model)


def test_a_newer_opset_runs_in_onnxruntime_under_one_it_knows(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("g (float[N,5] x) => (float[N,3] y) <float[5,3] w> { y = MatMul(x, w) }", opset=23)

    def refuse(*_: object) -> None:
        raise AssertionError("the reference evaluator was asked")

    monkeypatch.setattr("onnx_oto.runtime.runner.in_reference", refuse)
    (y,) = runner(model)({"x": np.ones((2, 5), np.float32)})
    np.testing.assert_allclose(
        y, np.ones((2, 5)) @ numpy_helper.to_array(model.graph.initializer[0]), rtol=1e-5
    )


@pytest.mark.parametrize(("error", "passed"), [(0.0, True), (1e-6, True), (0.01, False)])
def test_an_error_in_a_small_column_does_not_hide_behind_a_large_one(error: float, passed: bool) -> None:
    boxes = np.random.default_rng(0).uniform(0, 640, (2, 20, 4))
    scores = np.random.default_rng(1).uniform(0, 1, (2, 20, 1))
    a = np.concatenate([boxes, scores], axis=2).astype(np.float32)
    b = a.copy()
    b[1, 7, 4] += error
    assert difference(a, b).ok == passed
    assert difference(a.transpose(0, 2, 1), b.transpose(0, 2, 1)).ok == passed


def test_models_that_differ_only_in_a_small_column_are_told_apart() -> None:
    """Boxes of hundreds of pixels and scores in one output; rounding is looked into, and is none."""
    text = """g (float[N,20,5] x) => (float[N,20,5] y) <float[5,4] w, float[5,1] v, float k = {640}>
    { a = MatMul(x, w) b = Mul(a, k) c = MatMul(x, v) s = Sigmoid(c) y = Concat<axis=2>(b, s) }"""
    full = build(text)
    wrong = copied(full)
    for tensor in wrong.graph.initializer:
        if tensor.name == "v":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(1.01), "v"))
    assert compare(full, full).passed
    verdict = compare(full, wrong)
    assert not verdict.passed
    assert verdict.max_rel < 1e-4
    assert "of its slice" in verdict.trouble
